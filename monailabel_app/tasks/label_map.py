"""Findings to one label map on the file's own grid, and to NRRD."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nrrd
import numpy as np
from numpy.typing import NDArray

from rcmed.image import Image


def paint(masks: Sequence[tuple[int, NDArray[np.bool_] | None]], image: Image) -> NDArray[np.uint8]:
    """Paint masks into one map; where they overlap the smaller one is seen, so that a tumour in a liver stays.

    Args:
        masks: (value from 1 to 255, bool (slice, row, column) on the image's grid); None paints nothing.
    Returns:
        uint8 (slice, row, column).
    Raises:
        GridMismatchError: a mask does not lie on the grid.
    """
    painted = np.zeros(image.grid.shape, dtype=np.uint8)
    present = [(value, mask) for value, mask in masks if mask is not None]
    for value, mask in sorted(present, key=lambda pair: -int(np.count_nonzero(pair[1]))):
        image.grid.require_mask(mask)
        painted[mask] = value
    return painted


def write_nrrd(values: NDArray[np.uint8], image: Image, path: Path) -> None:
    """Write a label map as raw NRRD, whose voxels are the file's: same order of axes, same place in the patient.

    A 2D image gets a third axis of one voxel; without geometry the space counts pixels. Nothing is shifted, flipped or
    resampled.

    Args:
        values: uint8 (slice, row, column) on the image's grid.
        path: ends in .nrrd.
    Source: NRRD format definition, "space" and "space directions"; left-posterior-superior is DICOM's LPS.
    """
    order = [int(axis) for axis in np.argsort(image.file_axes)]
    header = {
        "type": "uint8",
        "space": "left-posterior-superior",
        "space directions": image.grid.affine[:3, order].T,
        "space origin": image.grid.affine[:3, 3],
        "kinds": ["domain", "domain", "domain"],
        "encoding": "raw",
    }
    # First axis fastest, as the file says its axes.
    voxels = np.asfortranarray(np.transpose(values, order))
    nrrd.write(str(path), voxels, header, index_order="F")
