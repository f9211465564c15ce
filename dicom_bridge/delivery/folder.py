"""A folder as destination: `<study>/<SOP Instance UID>.dcm`, each there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pydicom

from dicom_bridge.delivery.destination import DeliveryReceipt, DestinationUnavailableError, RefusedObject
from dicom_bridge.store.instance_files import UnsafeUidError, require_uid
from rcmed.durable_files import write_durably


class FolderTarget:
    """Copies files into a folder."""

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
            header = pydicom.dcmread(
                file, stop_before_pixels=True, specific_tags=["StudyInstanceUID", "SOPInstanceUID"]
            )
            uid = str(header.get("SOPInstanceUID", ""))
            try:
                study = require_uid(str(header.get("StudyInstanceUID", "")), "Study Instance UID (0020,000D)")
                name = require_uid(uid, "SOP Instance UID (0008,0018)")
            except UnsafeUidError as error:
                refused.append(RefusedObject(uid, str(error)))
                continue
            content = file.read_bytes()
            try:
                write_durably(self._folder / study / f"{name}.dcm", content)
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
