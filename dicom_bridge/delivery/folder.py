"""A folder as destination: `<study>/<SOP Instance UID>.dcm`, each there whole or not at all; messages beside them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pydicom

from dicom_bridge.delivery.destination import DeliveryReceipt, DestinationUnavailableError, RefusedObject
from dicom_bridge.delivery.message import read_message
from dicom_bridge.results.kinds import DICOM_SUFFIX, HL7_SUFFIX
from dicom_bridge.settings import FolderDestination
from dicom_bridge.store.files.instance_files import UnsafeUidError, require_uid
from rcmed.durable_files import write_durably


class FolderTarget:
    """Copies files into a folder."""

    takes = FolderDestination.takes

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def deliver(self, files: Sequence[Path]) -> DeliveryReceipt:
        """Copy each file to its place; an older copy of the same object is replaced.

        Raises:
            DestinationUnavailableError: the folder can't be written.
        """
        delivered: list[str] = []
        refused: list[RefusedObject] = []
        for file in files:
            uid, study_uid = _identity(file)
            try:
                study = require_uid(study_uid, "Study Instance UID (0020,000D)")
                name = _file_name(file, uid)
            except UnsafeUidError as error:
                refused.append(RefusedObject(uid, str(error)))
                continue
            content = file.read_bytes()
            try:
                write_durably(self._folder / study / name, content)
            except OSError as error:
                raise DestinationUnavailableError(f"folder {self._folder} can't be written: {error.strerror}") from None
            delivered.append(uid)
        return DeliveryReceipt(tuple(delivered), tuple(refused), "written and synced")

    def check(self) -> str:
        """Whether the folder can be written, or made where it is not there yet; nothing is written for it.

        Raises:
            DestinationUnavailableError: it can't.
        """
        there = next(place for place in (self._folder, *self._folder.absolute().parents) if place.exists())
        if not there.is_dir():
            raise DestinationUnavailableError(f"folder {self._folder} can't be written: {there} is no folder")
        if not os.access(there, os.W_OK | os.X_OK):
            raise DestinationUnavailableError(f"folder {self._folder} can't be written: {there} may not be written")
        return f"folder {self._folder} can be written"


def _identity(file: Path) -> tuple[str, str]:
    """What identifies an object or a message, and its study's UID; "" where it does not tell."""
    if file.suffix != DICOM_SUFFIX:
        message = read_message(file)
        return message.identifier, message.study_uid
    header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["StudyInstanceUID", "SOPInstanceUID"])
    return str(header.get("SOPInstanceUID", "")), str(header.get("StudyInstanceUID", ""))


def _file_name(file: Path, identifier: str) -> str:
    """The name in the folder.

    Raises:
        UnsafeUidError: what should identify it is nothing that a name is made of.
    """
    if file.suffix == HL7_SUFFIX:
        if not identifier.isalnum() or not identifier.isascii():
            raise UnsafeUidError("Message Control ID (MSH-10) is not letters and digits")
        return f"{identifier}{file.suffix}"
    return f"{require_uid(identifier, 'SOP Instance UID (0008,0018)')}{file.suffix}"
