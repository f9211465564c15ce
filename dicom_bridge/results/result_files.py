"""Results on the disk: written whole or not at all."""

from __future__ import annotations

import re
from pathlib import Path

from pydicom.dataset import Dataset

from rcmed.durable_files import replaced
from rcmed.errors import InputError

_UID = re.compile(r"[0-9]+(\.[0-9]+)+")


def write_result(dataset: Dataset, folder: Path) -> Path:
    """Write a result as `folder/<SOPInstanceUID>.dcm`, durably: a reader sees the whole file or none.

    Written twice, the later one stays.

    Returns:
        the file.
    Raises:
        InputError: the SOPInstanceUID is no UID; no path is built from it.
    """
    uid = str(dataset.SOPInstanceUID)
    if len(uid) > 64 or not _UID.fullmatch(uid):
        raise InputError(f"SOPInstanceUID (0008,0018) {uid!r} is no UID: no file is named after it")
    path = folder / f"{uid}.dcm"
    with replaced(path) as part:
        dataset.save_as(part, enforce_file_format=True)
    return path
