"""Sources of the bridge's tests, label maps as viewers save them, and an Orthanc with DICOMweb and users."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nrrd
import numpy as np
import pytest
import requests
from numpy.typing import NDArray

from dicom_bridge.series.read import read_series
from monailabel_app.datastores.access import PeerAccess
from monailabel_app.datastores.dicom_datastore import DicomDatastore
from monailabel_app.datastores.dicom_folder import DicomFolder
from rcmed.image import Grid, Image

PATIENCE = 60.0
SYSTEM_FOLDERS = "/usr/bin:/usr/sbin:/usr/local/bin:/opt/homebrew/bin"
DICOMWEB_PLUGIN = "libOrthancDicomWeb.so"
PLUGIN_FOLDERS = ("/usr/share/orthanc/plugins", "/usr/lib/orthanc/plugins", "/usr/local/share/orthanc/plugins")
BRIDGE_TESTS = Path(__file__).parents[2] / "dicom_bridge"


def _bridge_sources() -> Any:
    """The builders of source series that the bridge's tests use."""
    places = [BRIDGE_TESTS / "support" / "result_sources.py", BRIDGE_TESTS / "conftest.py"]
    path = next(place for place in places if place.exists())
    spec = importlib.util.spec_from_file_location("sources_of_the_bridge", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.Sources()


@pytest.fixture(scope="session")
def sources() -> Any:
    return _bridge_sources()


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    folder = tmp_path / "studies"
    folder.mkdir()
    return folder


@pytest.fixture
def open_folder(studies: Path, tmp_path: Path) -> Callable[[], DicomDatastore]:
    """Opens the folder `studies` as after a start of the server."""
    return lambda: DicomDatastore(DicomFolder(studies), tmp_path / "state")


@pytest.fixture
def as_nrrd(tmp_path: Path) -> Callable[..., Path]:
    """Writes a label map (slice, row, column), or (layer, slice, row, column), as Slicer does."""

    def write(labels: NDArray[Any], grid: Grid, name: str = "label.nrrd", **header: Any) -> Path:
        layered = labels.ndim == 4
        directions = grid.affine[:3, [2, 1, 0]].T
        told = {
            "space": "left-posterior-superior",
            "kinds": [*(["list"] if layered else []), "domain", "domain", "domain"],
            "space directions": np.vstack([np.full((int(layered), 3), np.nan), directions]),
            "space origin": grid.affine[:3, 3],
            "encoding": "gzip",
            **header,
        }
        voxels = np.transpose(labels, (0, 3, 2, 1) if layered else (2, 1, 0))
        path = tmp_path / name
        nrrd.write(str(path), np.asfortranarray(voxels), told, index_order="F")
        return path

    return write


def only_image(folder: Path) -> Image:
    """The image that the files of a folder make."""
    reading = read_series(sorted(folder.rglob("*.dcm")))
    assert reading.refusals == ()
    (image,) = reading.images
    return image


@pytest.fixture(scope="session")
def read_folder() -> Callable[[Path], Image]:
    return only_image


def _find(name: str, package: str, look: Callable[[], str | None]) -> str:
    path = look()
    if path is None:
        reason = f"{name} is not installed: install {package} (make debian-packages)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return path


@pytest.fixture(scope="session")
def tool() -> Callable[[str, str], str]:
    """The path of a program; without it the test is skipped, and fails where everything must be tested."""
    return lambda name, package: _find(name, package, lambda: shutil.which(name, path=SYSTEM_FOLDERS))


@dataclass(frozen=True)
class OrthancWithDicomWeb:
    """A running PACS that asks for user and password."""

    url: str
    user: str
    password: str

    @property
    def dicomweb(self) -> str:
        return f"{self.url}/dicom-web"

    @property
    def access(self) -> PeerAccess:
        return PeerAccess(self.user, self.password)

    def upload(self, files: Sequence[Path]) -> None:
        for file in files:
            answer = requests.post(
                f"{self.url}/instances", file.read_bytes(), auth=(self.user, self.password), timeout=30
            )
            answer.raise_for_status()

    def clear(self) -> None:
        for patient in requests.get(f"{self.url}/patients", auth=(self.user, self.password), timeout=30).json():
            requests.delete(f"{self.url}/patients/{patient}", auth=(self.user, self.password), timeout=30)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def _running_orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OrthancWithDicomWeb]:
    program = _find("Orthanc", "orthanc", lambda: shutil.which("Orthanc", path=SYSTEM_FOLDERS))
    plugins = [Path(folder) / DICOMWEB_PLUGIN for folder in PLUGIN_FOLDERS]
    plugin = _find(
        DICOMWEB_PLUGIN, "orthanc-dicomweb", lambda: next((str(path) for path in plugins if path.exists()), None)
    )
    folder = tmp_path_factory.mktemp("orthanc")
    port = _free_port()
    configuration = {
        "Name": "test",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "Plugins": [plugin],
        "HttpPort": port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {"annotator": "a secret"},
        "DicomServerEnabled": False,
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    peer = OrthancWithDicomWeb(f"http://127.0.0.1:{port}", "annotator", "a secret")
    log = folder / "orthanc.log"
    with log.open("wb") as output:
        process = subprocess.Popen([program, str(folder / "orthanc.json")], stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + PATIENCE
        while not _answers(peer):
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"Orthanc is not ready: {log.read_text(errors='replace')}")
            time.sleep(0.05)
        yield peer
    finally:
        process.terminate()
        process.wait(30)


def _answers(peer: OrthancWithDicomWeb) -> bool:
    try:
        return requests.get(f"{peer.url}/system", auth=(peer.user, peer.password), timeout=5).ok
    except requests.RequestException:
        return False


@pytest.fixture
def orthanc(_running_orthanc: OrthancWithDicomWeb) -> OrthancWithDicomWeb:
    """An empty Orthanc."""
    _running_orthanc.clear()
    return _running_orthanc
