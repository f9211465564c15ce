"""Several gateway processes as if on several machines: one PostgreSQL database, one state folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dicom_bridge.jobs.ledger import JobLedger
from dicom_bridge.settings import DatabaseSettings
from dicom_bridge.store.database import Database, index_address
from dicom_bridge.store.index import StudyIndex

_SCRIPT = Path(__file__).with_name("member_process.py")
_PATIENCE = 120.0


class Machines:
    """Starts, kills and pauses processes by their names.

    Attributes:
        state: the state folder that they share.
        signs: files through which they and the test tell each other things, see `member_process.py`.
    """

    def __init__(
        self,
        folder: Path,
        database: DatabaseSettings,
        settings: Mapping[str, Any],
        ports: Mapping[str, int] | None = None,
    ) -> None:
        """Prepare.

        Args:
            folder: for state, signs and logs.
            database: that they share.
            settings: of the gateway, without `state_folder` and `database`.
            ports: of the receivers, by name; without them each takes the settings'.
        """
        self.state = folder / "state"
        self.signs = folder / "signs"
        self.signs.mkdir(parents=True)
        self._folder = folder
        self._database = database
        self._settings_file = folder / "gateway.yaml"
        told = {"url": database.url, "password_file": str(database.password_file)}
        self._settings_file.write_text(json.dumps({**settings, "state_folder": str(self.state), "database": told}))
        self._ports = ports or {}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._receives: dict[str, bool] = {}

    def __enter__(self) -> Machines:
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._running):
            self.kill(name)

    def start(self, name: str, receives: bool = False, until_running: bool = True) -> None:
        sign = self.signs / f"running-{name}"
        sign.unlink(missing_ok=True)
        command = [sys.executable, str(_SCRIPT), str(self._settings_file), str(self.signs), name]
        command += ["serve" if receives else "work", str(self._ports.get(name, ""))]
        with self.log(name).open("ab") as log:
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        self._running[name] = process
        self._receives[name] = receives
        if until_running:
            self.wait_until(lambda: self.is_running(name), f"{name} runs")

    def is_running(self, name: str) -> bool:
        """Whether it said so; its end before is a failure."""
        process = self._running[name]
        if process.poll() is not None:
            del self._running[name]
            raise AssertionError(f"{name} ended with {process.returncode} and said\n{self.said(name)}")
        return (self.signs / f"running-{name}").exists()

    def kill(self, name: str) -> None:
        """SIGKILL: it can't tidy up."""
        process = self._running.pop(name)
        process.kill()
        process.wait(30)

    def stop(self, name: str) -> int:
        """SIGTERM; returns its exit status."""
        process = self._running.pop(name)
        process.terminate()
        return process.wait(60)

    def revive(self) -> list[str]:
        """Start those again that ended by themselves, as a service manager does; returns their names."""
        ended = [name for name, process in self._running.items() if process.poll() is not None]
        for name in ended:
            self.start(name, receives=self._receives[name], until_running=False)
        return ended

    def pause(self, name: str) -> None:
        self._running[name].send_signal(signal.SIGSTOP)

    def go_on(self, name: str) -> None:
        self._running[name].send_signal(signal.SIGCONT)

    def hold(self, name: str) -> None:
        """From now on its assistant does not answer."""
        (self.signs / f"hold-{name}").touch()

    def let_go(self, name: str) -> None:
        (self.signs / f"hold-{name}").unlink()

    def process_id(self, name: str) -> int:
        return self._running[name].pid

    def fill_disk(self) -> None:
        """From now on each sees a full disk."""
        (self.signs / "disk-full").touch()

    def free_disk(self) -> None:
        (self.signs / "disk-full").unlink()

    def asked(self, name: str) -> list[float]:
        """When its assistant was asked, over all its lives, in seconds since the epoch."""
        return sorted(int(sign.name.rpartition("-")[2]) / 1e9 for sign in self.signs.glob(f"asked-{name}-*"))

    def log(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def said(self, name: str) -> str:
        return self.log(name).read_text(errors="replace")

    def wait_until(self, condition: Callable[[], bool], what: str, seconds: float = _PATIENCE) -> None:
        """Ask again and again: the others are other processes."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                told = "\n".join(f"--- {name}\n{self.said(name)[-4000:]}" for name in self._running)
                raise AssertionError(f"{what}: not so after {seconds:g} s\n{told}")
            time.sleep(0.05)

    @contextmanager
    def opened(self) -> Iterator[tuple[StudyIndex, JobLedger]]:
        """What they have recorded, seen from another process."""
        database = Database(index_address(self._database, self.state))
        try:
            yield StudyIndex(database), JobLedger(database)
        finally:
            database.close()

    def exports(self) -> list[dict[str, Any]]:
        """What their audit trails say of deliveries."""
        lines = [line for trail in self.state.glob("audit-*.jsonl") for line in trail.read_text().splitlines()]
        return [record for record in map(json.loads, lines) if record["event"]["meaning"] == "Export"]
