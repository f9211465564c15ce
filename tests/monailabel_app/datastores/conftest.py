"""Sources of the bridge's tests, label maps as viewers save them, and an Orthanc with DICOMweb and users."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import nrrd
import numpy as np
import pytest
from numpy.typing import NDArray

from dicom_bridge.demo.orthanc import PROGRAM_FOLDERS, LocalOrthanc
from dicom_bridge.series.images import read_series
from monailabel_app.datastores.dicom.access import PeerAccess
from monailabel_app.datastores.dicom.datastore import DicomDatastore
from monailabel_app.datastores.dicom.folder import DicomFolder
from rcmed.errors import ConfigurationError
from rcmed.image import Grid, Image
from result_sources import Sources


@pytest.fixture(scope="session")
def sources() -> Sources:
    return Sources()


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


def _missing(reason: str) -> None:
    """Without it the test is skipped, and fails where everything must be tested."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def tool() -> Callable[[str, str], str]:
    """The path of a program."""

    def find(name: str, package: str) -> str:
        path = shutil.which(name, path=PROGRAM_FOLDERS)
        if path is None:
            _missing(f"{name} is not installed: install {package} (make debian-packages)")
        return str(path)

    return find


class OrthancWithUsers:
    """A running PACS that asks for user and password."""

    def __init__(self, running: LocalOrthanc) -> None:
        ((self.user, self.password),) = running.users.items()
        self.dicomweb = running.dicomweb_url
        self._api = running.api

    @property
    def access(self) -> PeerAccess:
        return PeerAccess(self.user, self.password)

    def upload(self, files: Sequence[Path]) -> None:
        for file in files:
            self._api.upload_file(str(file))

    def clear(self) -> None:
        self._api.delete_all_content()


@pytest.fixture(scope="session")
def _running_orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OrthancWithUsers]:
    try:
        with LocalOrthanc(tmp_path_factory.mktemp("orthanc"), users={"annotator": "a secret"}) as running:
            yield OrthancWithUsers(running)
    except ConfigurationError as error:
        _missing(str(error))


@pytest.fixture
def orthanc(_running_orthanc: OrthancWithUsers) -> OrthancWithUsers:
    """An empty Orthanc."""
    _running_orthanc.clear()
    return _running_orthanc
