"""Results on the disk: written whole or not at all, and read back."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.pixels import unpack_bits
from pydicom.uid import SegmentationStorage

from rcmed.errors import GridMismatchError, InputError, UnreadableFileError
from rcmed.image import Image

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


def read_segmentation(path: Path, image: Image) -> dict[int, NDArray[np.bool_]]:
    """Read the masks of a BINARY Segmentation back onto the grid of the image it was made from.

    Frames find their slices by the instance and frame they were derived from (DerivationImageSequence).

    Returns:
        bool (slice, row, column) for each segment number; slices that the SEG leaves out are empty.
    Raises:
        UnreadableFileError: the file can't be read.
        InputError: it is no BINARY SEG, or its frames do not say what they were derived from.
        GridMismatchError: a frame has another size than the image, or was made from an instance that is not in it.
    """
    try:
        dataset = dcmread(path)
    except (OSError, InvalidDicomError, EOFError) as error:
        raise UnreadableFileError(f"{path}: can't be read: {error}") from error
    if dataset.get("SOPClassUID") != SegmentationStorage or dataset.get("SegmentationType") != "BINARY":
        raise InputError(f"{path}: not a BINARY Segmentation (SOPClassUID (0008,0016), SegmentationType (0062,0001))")
    if (dataset.Rows, dataset.Columns) != image.grid.shape[1:]:
        raise GridMismatchError(
            f"{path}: Rows x Columns {dataset.Rows} x {dataset.Columns} is not the grid {image.grid.shape} of the image"
        )
    slices = {(s.sop_instance_uid, s.frame_number): number for number, s in enumerate(image.sources)}
    frames, size = int(dataset.NumberOfFrames), dataset.Rows * dataset.Columns
    bits = unpack_bits(dataset.PixelData)[: frames * size]
    pixels = np.asarray(bits, dtype=bool).reshape(frames, dataset.Rows, dataset.Columns)
    masks = {int(s.SegmentNumber): np.zeros(image.grid.shape, dtype=bool) for s in dataset.SegmentSequence}
    shared = dataset.SharedFunctionalGroupsSequence[0]
    for number, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        identification = group.get("SegmentIdentificationSequence") or shared.get("SegmentIdentificationSequence")
        derivation = group.get("DerivationImageSequence") or shared.get("DerivationImageSequence")
        if not identification or not derivation or not derivation[0].get("SourceImageSequence"):
            raise InputError(
                f"{path}: frame {number + 1} has no SegmentIdentificationSequence (0062,000A) or no "
                "DerivationImageSequence (0008,9124); it can't be put on a slice"
            )
        item = derivation[0].SourceImageSequence[0]
        frame = item.get("ReferencedFrameNumber")
        key = (str(item.ReferencedSOPInstanceUID), None if frame is None else int(frame))
        if key not in slices:
            raise GridMismatchError(f"{path}: frame {number + 1} was made from {key[0]}, which is not in the image")
        masks[int(identification[0].ReferencedSegmentNumber)][slices[key]] |= pixels[number]
    return masks
