"""The datastore that `studies` names: a DICOMweb server, a folder of DICOM, or a folder of other images."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from monailabel_app.datastores.dicom.access import PeerAccess
from rcmed.errors import ConfigurationError

if TYPE_CHECKING:
    from monailabel.interfaces.datastore import Datastore


def open_datastore(
    studies: str,
    state: Path,
    access: PeerAccess | None = None,
    filters: Mapping[str, str] | None = None,
) -> Datastore:
    """Open the datastore that `studies` names.

    Args:
        studies: an http(s) URL: DICOMweb; a folder that holds DICOM: its series; another folder: its image files.
        state: folder for what is fetched and noted. Each DICOM archive gets a folder of its own in it.
        access: to a DICOMweb peer; None: from the environment, see `PeerAccess.from_environment`.
        filters: attributes that series of a DICOMweb peer must match, by keyword.
    Raises:
        ConfigurationError: neither URL nor folder, or the access contradicts itself.
    """
    from monailabel_app.datastores.dicom.datastore import DicomDatastore

    if studies.lower().startswith(("http://", "https://")):
        from monailabel_app.datastores.dicom.dicomweb import DicomWeb

        archive = DicomWeb(studies, access if access is not None else PeerAccess.from_environment(), filters)
        return DicomDatastore(archive, _own_state(state, archive.name))
    folder = Path(studies)
    if not folder.is_dir():
        raise ConfigurationError(f"studies: {studies}: no such folder; give a folder, or the URL of a DICOMweb server")
    from monailabel_app.datastores.dicom.folder import DicomFolder, holds_dicom

    if holds_dicom(folder):
        return DicomDatastore(DicomFolder(folder, without=state), _own_state(state, str(folder.resolve())))
    from monailabel_app.datastores.folder import FolderDatastore

    return FolderDatastore(folder)


def _own_state(state: Path, address: str) -> Path:
    """What was fetched from one archive is never taken for another's."""
    return state / "archives" / hashlib.sha256(address.encode()).hexdigest()[:16]
