"""Programs of others and processes of ours: on free ports of loopback, ended by their own process ids."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from orthanc_api_client import OrthancApiClient
from pynetdicom import AE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from dicom_bridge.gateway.composition import Gateway
from dicom_bridge.settings import GatewaySettings

PATIENCE = 120.0
LOOPBACK = "127.0.0.1"
# DICOM's own programs are not looked for on PATH: pynetdicom installs commands of the same names beside Python.
SYSTEM_FOLDERS = "/usr/bin:/usr/sbin:/usr/local/bin:/opt/homebrew/bin"


def wait_until(condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    """Ask again and again: the other side is another process."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not so after {seconds:g} s")
        time.sleep(0.05)


@pytest.fixture(scope="session")
def tool() -> Callable[[str, str], str]:
    """The path of a program; without it the test is skipped, and fails where everything must be tested."""

    def find(name: str, package: str) -> str:
        path = shutil.which(name, path=SYSTEM_FOLDERS)
        if path is None:
            reason = f"{name} is not installed: install {package} (make debian-packages)"
            if os.environ.get("CI"):
                pytest.fail(reason)
            pytest.skip(reason)
        return path

    return find


@pytest.fixture
def free_port() -> Callable[[], int]:
    def find() -> int:
        with socket.socket() as probe:
            probe.bind((LOOPBACK, 0))
            return int(probe.getsockname()[1])

    return find


class Program:
    """A running program; what it says goes to a file."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self._log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(list(command), stdin=subprocess.DEVNULL, stdout=output, stderr=output)

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """SIGKILL: the program can't tidy up."""
        self._process.kill()
        self._process.wait(30)

    @property
    def process_id(self) -> int:
        return self._process.pid

    def wait_for_end(self) -> int:
        """Wait until it ended by itself; returns its exit status."""
        return self._process.wait(120)

    def said(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for something that this program does; its end is the end of the waiting."""

        def happened() -> bool:
            if self._process.poll() is not None:
                pytest.fail(f"{what}: the program ended with {self._process.returncode} and said\n{self.said()}")
            return condition()

        wait_until(happened, what)


def answers_echo(port: int) -> bool:
    """Whether a DICOM application entity answers a C-ECHO on this port."""
    entity = AE("PROBE")
    entity.add_requested_context(Verification)
    entity.connection_timeout = entity.acse_timeout = entity.dimse_timeout = 5
    association = entity.associate(LOOPBACK, port)
    if not association.is_established:
        return False
    answer = association.send_c_echo()
    association.release()
    return answer.get("Status") == 0


def accepts_connections(port: int) -> bool:
    """Whether anything listens on this port."""
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) == 0


@dataclass(frozen=True)
class Peer:
    """An application entity that takes results."""

    ae_title: str
    port: int

    @property
    def destination(self) -> dict[str, Any]:
        return {"type": "c_store", "host": LOOPBACK, "port": self.port, "called_ae": self.ae_title}


@dataclass(frozen=True)
class FolderPeer(Peer):
    """DCMTK's storescp: each object that it takes becomes a file."""

    folder: Path


@pytest.fixture
def storescp(tmp_path: Path, tool: Callable[..., str], free_port: Callable[[], int]) -> Iterator[FolderPeer]:
    peer = FolderPeer("PACS", free_port(), tmp_path / "storescp")
    peer.folder.mkdir()
    path = tool("storescp", "dcmtk")
    command = [path, "--aetitle", peer.ae_title, "--output-directory", str(peer.folder), str(peer.port)]
    with Program(command, tmp_path / "storescp.log") as program:
        program.wait_until(lambda: answers_echo(peer.port), "storescp listens")
        yield peer


@pytest.fixture
def secured_storescp(
    tmp_path: Path, tool: Callable[..., str], free_port: Callable[[], int], certificates: Any
) -> Iterator[FolderPeer]:
    """DCMTK's storescp that asks for a certificate of the hospital."""
    peer = FolderPeer("PACS", free_port(), tmp_path / "secured-storescp")
    peer.folder.mkdir()
    own = certificates.workstation
    command = [tool("storescp", "dcmtk"), "+tls", own.key, own.certificate, "+cf", certificates.trusted, "-rc"]
    command += ["--aetitle", peer.ae_title, "--output-directory", peer.folder, peer.port]
    with Program([str(part) for part in command], tmp_path / "secured-storescp.log") as program:
        program.wait_until(lambda: accepts_connections(peer.port), "storescp listens")
        yield peer


@dataclass(frozen=True)
class OrthancPeer(Peer):
    """Orthanc, a PACS, with its REST API, and DICOMweb where the plugin is installed."""

    api: OrthancApiClient
    url: str

    def knows(self, gateway: Gateway) -> None:
        """Make the gateway one of its modalities."""
        told = {"AET": "RCMED", "Host": LOOPBACK, "Port": gateway.ports.dicom, "AllowStorageCommitment": True}
        self.api.put("modalities/gateway", json=told)

    @property
    def dicom_web(self) -> str:
        """The root of its DICOMweb service; without the plugin the test is skipped."""
        if "dicom-web" not in self.api.get_json("plugins"):
            reason = "Orthanc has no DICOMweb: install orthanc-dicomweb (make debian-packages)"
            if os.environ.get("CI"):
                pytest.fail(reason)
            pytest.skip(reason)
        return f"{self.url}/dicom-web"


@pytest.fixture
def orthanc(tmp_path: Path, tool: Callable[..., str], free_port: Callable[[], int]) -> Iterator[OrthancPeer]:
    path = tool("Orthanc", "orthanc")
    # Debian links each plugin of orthanc-dicomweb into this folder.
    plugins = [str(plugin) for plugin in Path("/usr/share/orthanc/plugins").glob("libOrthancDicomWeb.so")]
    port, http_port = free_port(), free_port()
    storage = str(tmp_path / "orthanc")
    configuration = {
        "Name": "test",
        "StorageDirectory": storage,
        "IndexDirectory": storage,
        "Plugins": plugins,
        "StableAge": 1,
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        "HttpPort": http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomServerEnabled": True,
        "DicomAet": "ORTHANC",
        "DicomCheckCalledAet": False,
        "DicomPort": port,
    }
    configured = tmp_path / "orthanc.json"
    configured.write_text(json.dumps(configuration))
    url = f"http://{LOOPBACK}:{http_port}"
    peer = OrthancPeer("ORTHANC", port, OrthancApiClient(url), url)
    with Program([path, str(configured)], tmp_path / "orthanc.log") as program:
        program.wait_until(lambda: bool(peer.api.is_alive(timeout=5)) and answers_echo(port), "Orthanc is ready")
        yield peer


def gateway_settings(state_folder: Path, destination: Mapping[str, Any], **sections: Any) -> dict[str, Any]:
    """Settings with one destination, free ports, and little patience with silence."""
    return {
        "state_folder": str(state_folder),
        "receive": {"port": 0, "minimum_free_megabytes": 0},
        "completion": {"quiet_seconds": 5, "released_seconds": 0.1},
        "jobs": {"polling_seconds": 0.05},
        "delivery": {"first_wait_seconds": 0.1, "maximum_wait_seconds": 0.2, "timeout_seconds": 30},
        "web": {"enabled": False},
        "routing": {
            "routes": [{"name": "ct", "prompts": ["liver", "spleen", "wibble"], "destinations": ["results"]}],
            "destinations": {"results": dict(destination)},
        },
        **sections,
    }


@pytest.fixture
def start_gateway(tmp_path: Path, threshold_assistant: Any) -> Iterator[Callable[[Mapping[str, Any]], Gateway]]:
    """Starts a gateway in this process that delivers to a destination."""
    with ExitStack() as running:

        def start(destination: Mapping[str, Any], **sections: Any) -> Gateway:
            configured = GatewaySettings.model_validate(gateway_settings(tmp_path / "state", destination, **sections))
            return running.enter_context(Gateway(configured, threshold_assistant))

        yield start


class GatewayProcess:
    """A gateway in a process of its own that can be killed and started again on the same folder and port.

    Attributes:
        port: of its storage SCP.
        state: its state folder.
        results: the folder that it delivers to.
        signs: files through which it and the test tell each other things, see `gateway_process.py`.
    """

    def __init__(self, folder: Path, port: int, running: ExitStack) -> None:
        self.port = port
        self.state = folder / "state"
        self.results = self.state / "results"
        self.signs = folder / "signs"
        self.signs.mkdir()
        self._folder = folder
        self._running = running
        self._program: Program | None = None

    def start(
        self,
        quiet_seconds: float = 3600,
        released_seconds: float | None = 0.1,
        jobs: dict[str, Any] | None = None,
        listens: bool = True,
    ) -> None:
        """Start and wait until it listens.

        Args:
            quiet_seconds, released_seconds: when a study is complete.
            jobs: settings of the job engine.
            listens: whether it lives until then.
        """
        self._sign("listening").unlink(missing_ok=True)
        content = gateway_settings(
            self.state,
            {"type": "folder", "path": "results"},
            receive={"port": self.port, "minimum_free_megabytes": 0},
            completion={"quiet_seconds": quiet_seconds, "released_seconds": released_seconds},
            jobs={"polling_seconds": 0.05, **(jobs or {})},
        )
        settings = self._folder / "gateway.yaml"
        settings.write_text(json.dumps(content))
        script = Path(__file__).with_name("gateway_process.py")
        command = [sys.executable, str(script), str(settings), str(self.signs)]
        self._program = self._running.enter_context(Program(command, self._folder / "gateway.log"))
        if listens:
            self.wait_until(self._sign("listening").exists, "the gateway listens")

    def start_and_die(self) -> None:
        """Start it again, to work on what kills it."""
        self.start(listens=False)
        self.wait_for_end()

    def kill(self) -> None:
        self._started.kill()

    def stop(self) -> None:
        """SIGTERM: it ends in good order."""
        self._started.__exit__()

    def said(self) -> str:
        return self._started.said()

    def is_answering(self) -> bool:
        """Whether a peer is answered."""
        return answers_echo(self.port)

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        self._started.wait_until(condition, what)

    # what it does when it is asked to find

    def hold(self) -> None:
        """From now on whoever asks what is in an image has to wait."""
        self._sign("hold").touch()

    def let_go(self) -> None:
        self._sign("hold").unlink()

    def block_at(self, series_uid: str) -> None:
        """Whoever asks what is in this series never gets an answer, and can't be called back."""
        self._sign("block").write_text(series_uid)

    def die_at(self, series_uid: str) -> None:
        """The process dies when it is asked what is in this series."""
        self._sign("die").write_text(series_uid)

    @property
    def process_id(self) -> int:
        return self._started.process_id

    def wait_for_end(self) -> int:
        """Wait until it ended by itself; returns its exit status."""
        return self._started.wait_for_end()

    @property
    def times_asked(self) -> int:
        """How often it was asked what is in an image, over all its lives."""
        return len(list(self.signs.glob("asked-*")))

    def result_files(self) -> list[Path]:
        """What it delivered, unfinished files included."""
        return sorted(path for path in self.results.rglob("*") if path.is_file())

    @property
    def _started(self) -> Program:
        assert self._program is not None
        return self._program

    def _sign(self, name: str) -> Path:
        return self.signs / name


@pytest.fixture
def gateway_process(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[GatewayProcess]:
    with ExitStack() as running:
        yield GatewayProcess(tmp_path, free_port(), running)
