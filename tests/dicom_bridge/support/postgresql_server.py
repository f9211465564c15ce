"""A PostgreSQL of one's own: a cluster in a temporary folder, on a free port of loopback, ended by its process id."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from sqlalchemy import URL, create_engine, text
from sqlalchemy.exc import OperationalError

from dicom_bridge.settings import DatabaseSettings

USER, PASSWORD = "rcmed", "only for loopback"
PACKAGE = "postgresql"
_PATIENCE = 60.0


def server_programs() -> Path | None:
    """The folder of `initdb` and `postgres`; None: not installed."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: -int(folder.parent.name))
    for name in ("pg_config", "initdb"):
        found = shutil.which(name)
        if found is not None and name == "pg_config":
            told = subprocess.run([found, "--bindir"], capture_output=True, text=True)
            folders.append(Path(told.stdout.strip()))
        elif found is not None:
            folders.append(Path(found).resolve().parent)
    return next((folder for folder in folders if (folder / "initdb").exists() and (folder / "postgres").exists()), None)


class PostgresqlServer:
    """Started with the `with` statement; everything it wrote is gone afterwards."""

    def __init__(self, programs: Path, **parameters: str) -> None:
        """Prepare.

        Args:
            programs: the folder of `initdb` and `postgres`.
            parameters: of the server's configuration.
        """
        self._programs = programs
        self._folder = Path(tempfile.mkdtemp(prefix="rcmed-postgresql-"))
        self._parameters = {"unix_socket_directories": "", "listen_addresses": "127.0.0.1", **parameters}
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])

    def __enter__(self) -> PostgresqlServer:
        # PostgreSQL refuses to run as root.
        self._as_user: list[str] = []
        if os.geteuid() == 0:
            user = next(pwd.getpwnam(name) for name in ("postgres", "nobody") if _is_user(name))
            os.chown(self._folder, user.pw_uid, user.pw_gid)
            identity = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
            self._as_user = ["setpriv", *identity, "env", "HOME=/"]
        password = self._folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        options = [f"--username={USER}", f"--pwfile={password}", "--auth=scram-sha-256", "--encoding=UTF8"]
        command = [*self._as_user, str(self._programs / "initdb"), "--no-sync", "--locale=C", *options]
        made = subprocess.run(
            [*command, "-D", str(self._folder / "data")], cwd="/", stdin=subprocess.DEVNULL, capture_output=True
        )
        if made.returncode:
            self._remove()
            raise RuntimeError(f"initdb failed: {made.stderr.decode(errors='replace')}")
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.stop(signal.SIGQUIT)
        finally:
            self._remove()

    @property
    def is_running(self) -> bool:
        return self._process is not None

    @property
    def process_id(self) -> int:
        """Of its main process."""
        assert self._process is not None
        return self._process.pid

    def start(self, until_ready: bool = True) -> None:
        """Start it again, on the same port."""
        parameters = [f"--{name}={value}" for name, value in {**self._parameters, "port": str(self.port)}.items()]
        command = [*self._as_user, str(self._programs / "postgres"), "-D", str(self._folder / "data"), *parameters]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + _PATIENCE
        while until_ready and not self._is_ready():
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise RuntimeError(f"PostgreSQL does not start: {self.said()}")
            time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: fast, ends all connections; SIGQUIT: immediate, as after a crash."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(_PATIENCE)
        self._process = None

    def said(self) -> str:
        return (self._folder / "log").read_text(errors="replace")

    def settings(self, database: str = "postgres") -> DatabaseSettings:
        """As the gateway is configured for it."""
        url = f"postgresql+psycopg://{USER}@127.0.0.1:{self.port}/{database}"
        return DatabaseSettings(url=url, password_file=self._folder / "password")

    def address(self, database: str = "postgres") -> URL:
        """With the password."""
        return URL.create("postgresql+psycopg", USER, PASSWORD, "127.0.0.1", self.port, database)

    def create_database(self, name: str) -> URL:
        engine = create_engine(self.address(), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f'CREATE DATABASE "{name}"'))
        engine.dispose()
        return self.address(name)

    def _is_ready(self) -> bool:
        engine = create_engine(self.address())
        try:
            with engine.connect():
                return True
        except OperationalError:
            return False
        finally:
            engine.dispose()

    def _remove(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def _is_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
