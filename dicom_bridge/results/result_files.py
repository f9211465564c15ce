"""Results on the disk: written whole or not at all."""

from __future__ import annotations

import os
import re
from pathlib import Path

from pydicom.dataset import Dataset

from rcmed.errors import InputError

_UID = re.compile(r"[0-9]+(\.[0-9]+)+")


def write_result(dataset: Dataset, folder: Path) -> Path:
    """Write a result as `folder/<SOPInstanceUID>.dcm`, durably: a reader sees the whole file or none.

    The file is written under a temporary name, flushed to the disk, and renamed; then the folder is flushed. Written
    twice, the later one stays.

    Returns:
        the file.
    Raises:
        InputError: the SOPInstanceUID is no UID; no path is built from it.
    """
    uid = str(dataset.SOPInstanceUID)
    if len(uid) > 64 or not _UID.fullmatch(uid):
        raise InputError(f"SOPInstanceUID (0008,0018) {uid!r} is no UID: no file is named after it")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{uid}.dcm"
    partial = folder / f".{uid}.{os.getpid()}.partial"
    try:
        with partial.open("wb") as file:
            dataset.save_as(file, enforce_file_format=True)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return path
