"""Any DICOM files to any application entity by C-STORE, as from a modality: `rcmed send` and the demo."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path

from pydicom.uid import MediaStorageDirectoryStorage

from dicom_bridge.delivery.destination import DestinationUnavailableError
from dicom_bridge.delivery.dimse.c_store import store_files
from dicom_bridge.delivery.dimse.outgoing import read_outgoing
from rcmed.errors import InputError

CALLING_AE = "RCMED-SEND"
TIMEOUT_SECONDS = 60.0


def send_files(
    paths: Sequence[Path],
    host: str,
    port: int,
    called_ae: str,
    calling_ae: str = CALLING_AE,
    tls: ssl.SSLContext | None = None,
) -> None:
    """Send instances, each in the transfer syntax it is stored in.

    Args:
        paths: DICOM files with file meta information.
        tls: None for plain DICOM.
    Raises:
        InputError: nobody accepts the association, or an instance was refused; the line names it and the status.
    """
    try:
        outcomes = store_files(
            [read_outgoing(path) for path in paths],
            host=host,
            port=port,
            called_ae=called_ae,
            calling_ae=calling_ae,
            timeout_seconds=TIMEOUT_SECONDS,
            tls=tls,
        )
    except (DestinationUnavailableError, ValueError) as error:
        raise InputError(str(error)) from None
    for outcome in outcomes:
        if not outcome.is_stored:
            raise InputError(f"{outcome.file.path}: {called_ae} did not take it: {outcome.reason}")


def find_dicom_files(folder: Path) -> list[Path]:
    """Every DICOM file with file meta information under a folder (or the file itself), sorted by path.

    Raises:
        InputError: there is none.
    """
    candidates = [folder] if folder.is_file() else sorted(path for path in folder.rglob("*") if path.is_file())
    found = [path for path in candidates if _is_instance(path)]
    if not found:
        raise InputError(f"{folder}: no DICOM file in it: name a file or folder with DICOM instances")
    return found


def _is_instance(path: Path) -> bool:
    try:
        # A DICOMDIR is DICOM, too, but nothing to be stored (PS3.3 F.3).
        return read_outgoing(path).sop_class_uid != MediaStorageDirectoryStorage
    except ValueError:
        return False
