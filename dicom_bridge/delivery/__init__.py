"""Results to their destinations: told apart whether an object was refused or the destination is sick."""

from __future__ import annotations

from pathlib import Path

from dicom_bridge.delivery.c_store import CStoreTarget
from dicom_bridge.delivery.destination import Destination
from dicom_bridge.delivery.folder import FolderTarget
from dicom_bridge.settings import CStoreDestination, FolderDestination


def open_destination(
    settings: CStoreDestination | FolderDestination, state_folder: Path, timeout_seconds: float
) -> Destination:
    """The destination that a configuration names; nothing is connected yet.

    Args:
        settings: of the destination.
        state_folder: what a relative folder is relative to.
        timeout_seconds: for connecting and for each answer.
    """
    if isinstance(settings, CStoreDestination):
        return CStoreTarget(settings, timeout_seconds)
    return FolderTarget(state_folder / settings.path)
