from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from monailabel_app.datastores.dicom.access import PeerAccess
from monailabel_app.datastores.dicom.datastore import DicomDatastore
from monailabel_app.datastores.dicom.dicomweb import DicomWeb
from monailabel_app.datastores.dicom.folder import DicomFolder
from monailabel_app.datastores.opening import open_datastore
from rcmed.errors import ConfigurationError


def test_an_address_is_a_dicomweb_server(tmp_path: Path) -> None:
    """Nothing is asked yet, so that a server starts while its PACS is down."""
    store = open_datastore("http://127.0.0.1:9/dicom-web/", tmp_path, PeerAccess())
    assert isinstance(store, DicomDatastore) and isinstance(store.archive, DicomWeb)
    assert store.name() == "http://127.0.0.1:9/dicom-web"


def test_a_folder_with_dicom_is_a_dicom_folder(studies: Path, sources: Any, tmp_path: Path) -> None:
    (studies / "read me.txt").write_text("x")
    (studies / "deep" / "down").mkdir(parents=True)
    image = sources.volume(studies / "deep" / "down")
    store = open_datastore(str(studies), tmp_path / "state")
    assert isinstance(store, DicomDatastore) and isinstance(store.archive, DicomFolder)
    assert store.list_images() == [image.series_instance_uid]


def test_the_state_may_lie_in_the_studies(studies: Path, sources: Any) -> None:
    image = sources.volume(studies)
    store = open_datastore(str(studies), studies / "state")
    folder = Path(store.get_image_uri(image.series_instance_uid))
    assert folder.is_relative_to(studies / "state")
    again = open_datastore(str(studies), studies / "state")
    assert again.get_image_uri(image.series_instance_uid) == str(folder)


def test_what_is_neither_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no such folder"):
        open_datastore(str(tmp_path / "nowhere"), tmp_path)


def test_another_folder_is_one_of_image_files(studies: Path, tmp_path: Path) -> None:
    pytest.importorskip("monailabel_app.datastores.folder")
    (studies / "a.txt").write_text("x")
    assert not isinstance(open_datastore(str(studies), tmp_path / "state"), DicomDatastore)
