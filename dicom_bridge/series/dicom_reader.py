"""The reader that the bridge registers with `rcmed.readers`: a DICOM file or a folder of them."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from dicom_bridge.series.completeness import is_like_a_slice
from dicom_bridge.series.images import Refusal, read_series
from rcmed.errors import UnknownFormatError, UnreadableFileError
from rcmed.image import Image
from rcmed.modality import Modality

MAX_FILES = 100_000
"""Most files of a folder that are looked at."""

logger = logging.getLogger(__name__)


def read_dicom(path: Path, modality: Modality | None = None) -> list[Image]:
    """Read every image of a DICOM file, or of a folder and all below it.

    Files of a folder that are not DICOM are passed over, unless they stand where a slice would. What is refused beside
    readable images is logged and stands in the first image's warnings.

    Raises:
        UnknownFormatError: nothing here is DICOM.
        InputError: nothing is usable; the text of the first refusal, and how many more there are.
    """
    path = Path(path)
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
        if len(files) > MAX_FILES:
            raise UnreadableFileError(
                f"{path}: {len(files)} files are above the limit of {MAX_FILES}; give a subfolder"
            )
    reading = read_series(files, modality)
    slices = {file for image in reading.images for file in image.files}
    refusals = [
        refusal
        for refusal in reading.refusals
        if not isinstance(refusal.reason, UnknownFormatError) or is_like_a_slice(refusal.paths[0], slices)
    ]
    if not reading.images:
        raise _nothing_usable(path, refusals)
    for refusal in refusals:
        logger.warning("left out: %s", refusal.reason)
    images = list(reading.images)
    left_out = tuple(f"left out: {refusal.reason}" for refusal in refusals)
    images[0] = replace(images[0], warnings=images[0].warnings + left_out)
    return images


def _nothing_usable(path: Path, refusals: list[Refusal]) -> Exception:
    if not refusals:
        return UnknownFormatError(f"{path}: not DICOM" if path.is_file() else f"{path}: a folder without DICOM files")
    # The reason that concerns most files is the one to tell.
    chief = max(refusals, key=lambda refusal: len(refusal.paths)).reason
    others = len(refusals) - 1
    return type(chief)(f"{chief}" + (f" (and {others} more refused)" if others else ""))
