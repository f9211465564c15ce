"""An Orthanc of its own on loopback that plays the PACS of a demonstration: C-STORE and DICOMweb."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from orthanc_api_client import OrthancApiClient

from rcmed.errors import ConfigurationError

LOOPBACK = "127.0.0.1"
# Not on PATH alone: servers lie in folders that a user's PATH often lacks.
PROGRAM_FOLDERS = "/usr/bin:/usr/sbin:/usr/local/bin:/usr/local/sbin:/opt/homebrew/bin"
PLUGIN_FOLDERS = (Path("/usr/share/orthanc/plugins"), Path("/usr/local/share/orthanc/plugins"))
DICOMWEB_PLUGIN = "libOrthancDicomWeb.so"
DICOMWEB_ROOT = "/dicom-web/"
PATIENCE_SECONDS = 60.0
_MEND = "install it (Debian, Ubuntu: make debian-packages)"


class LocalOrthanc:
    """Orthanc with DICOMweb, in a folder that keeps what it holds; runs inside its `with` block.

    It answers on loopback only and asks for no password unless users are given.
    """

    def __init__(self, folder: Path, ae_title: str = "ORTHANC", users: Mapping[str, str] | None = None) -> None:
        """Prepare; nothing runs yet.

        Args:
            folder: of its storage, configuration and log.
            ae_title: its name in DICOM.
            users: passwords by user; none: everyone on this machine may ask.
        """
        self.folder = folder.resolve()
        self.ae_title = ae_title
        self.users = dict(users or {})
        self.dicom_port = 0
        self.http_port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def dicomweb_url(self) -> str:
        """The root of its DICOMweb services."""
        return f"http://{LOOPBACK}:{self.http_port}{DICOMWEB_ROOT.rstrip('/')}"

    @property
    def api(self) -> OrthancApiClient:
        """Its own REST API."""
        user, password = next(iter(self.users.items()), (None, None))
        return OrthancApiClient(f"http://{LOOPBACK}:{self.http_port}", user=user, pwd=password)

    def __enter__(self) -> LocalOrthanc:
        """Start it and wait until it answers.

        Raises:
            ConfigurationError: Orthanc or its plugin is not installed, or it does not start; its log is named.
        """
        program = shutil.which("Orthanc", path=PROGRAM_FOLDERS) or shutil.which("Orthanc")
        if program is None:
            raise ConfigurationError(f"Orthanc: the program is missing; {_MEND}")
        plugins = (folder / DICOMWEB_PLUGIN for folder in PLUGIN_FOLDERS)
        plugin = next((path for path in plugins if path.exists()), None)
        if plugin is None:
            raise ConfigurationError(f"{DICOMWEB_PLUGIN}: Orthanc's DICOMweb plugin is missing; {_MEND}")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.dicom_port, self.http_port = _free_ports(2)
        configuration = self.folder / "orthanc.json"
        configuration.write_text(json.dumps(self._configuration(plugin), indent=2))
        configuration.chmod(0o600)
        log = self.folder / "orthanc.log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [program, str(configuration)], stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        try:
            self._wait(log)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(30)

    def _configuration(self, plugin: Path) -> dict[str, Any]:
        storage = str(self.folder / "storage")
        return {
            "Name": "RCMed",
            "StorageDirectory": storage,
            "IndexDirectory": storage,
            "Plugins": [str(plugin)],
            "HttpPort": self.http_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": bool(self.users),
            "RegisteredUsers": self.users,
            "DicomServerEnabled": True,
            "DicomAet": self.ae_title,
            "DicomCheckCalledAet": False,
            "DicomPort": self.dicom_port,
            # Results repeat under the same UIDs: the last one counts.
            "OverwriteInstances": True,
            "DicomWeb": {"Enable": True, "Root": DICOMWEB_ROOT, "EnableWado": False, "Ssl": False},
        }

    def _wait(self, log: Path) -> None:
        assert self._process is not None
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (_listens(self.dicom_port) and self.api.is_alive(timeout=2)):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ConfigurationError(f"Orthanc does not start; {log} says why")
            time.sleep(0.05)


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind((LOOPBACK, 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex((LOOPBACK, port)) == 0
