"""Files of masks and label maps, read onto the grid of their image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcmed.errors import GridMismatchError, InputError
from rcmed.image import Image
from rcmed.readers.alignment import bring_onto
from rcmed.readers.picture_labels import read_labels

_ROUNDING = 1e-3
"""Whole numbers that were stored scaled come back so far off at most."""


def read_label_map(path: Path, image: Image, name: str | None = None) -> NDArray[np.integer]:
    """The values of a label map on an image's grid, (slice, row, column); axes may run otherwise in the file.

    Args:
        path: NIfTI, NRRD, MHA or a picture.
        image: that was labelled.
        name: for the messages; None: the path.
    Raises:
        InputError: the file can't be read or is no label map.
        GridMismatchError: its voxels are not those of the image.
    """
    name = name or str(path)
    label = read_labels(path, image.modality)
    if label.is_colour:
        raise InputError(f"{name}: is a colour picture; a label map holds one whole number a pixel")
    return _onto(whole_numbers(label.pixels, name), label, image, name)


def read_mask(path: Path, image: Image) -> NDArray[np.bool_]:
    """A mask on an image's grid, bool (slice, row, column): what is above 0 in the file, in any channel of a colour.

    Raises:
        InputError: the file can't be read.
        GridMismatchError: its voxels are not those of the image.
    """
    label = read_labels(path, image.modality)
    drawn: NDArray[np.bool_] = np.greater(label.pixels, 0)  # type: ignore[call-overload]
    return _onto(drawn.any(-1) if label.is_colour else drawn, label, image, str(path))


def whole_numbers(values: NDArray[Any], name: str) -> NDArray[np.integer]:
    """The values of a label map as integers.

    Raises:
        InputError: negative ones or fractions: an image perhaps.
    """
    if values.min(initial=0) < 0:
        raise InputError(f"{name}: a label map holds no negative numbers; this is an image perhaps")
    if values.dtype.kind != "f":
        return values
    whole = np.rint(values).astype(np.int32) if np.isfinite(values).all() else None
    if whole is None or np.abs(values - whole).max(initial=0) > _ROUNDING:
        raise InputError(f"{name}: a label map holds whole numbers; these are fractions, an image perhaps")
    return whole


def _onto(values: NDArray[Any], label: Image, image: Image, name: str) -> NDArray[Any]:
    """Values on the label's own grid to the image's, by place; by the files' order of axes where none has a place."""
    is_placed = label.grid.in_patient_coordinates
    if image.grid.in_patient_coordinates and not is_placed:
        if label.grid.in_millimetres or label.nifti_header is not None or image.grid.shape[0] > 1:
            raise GridMismatchError(
                f"{name}: does not say where its voxels lie (NIfTI: sform and qform of code 0), as the image does; "
                "save it with the image's header"
            )
        # A picture of the one slice, whose pixels are told by their order.
        image.grid.require_mask(values.astype(bool))
        return values
    stored = np.transpose(values, np.argsort(label.file_axes))
    affine = label.grid.affine[:, [*np.argsort(label.file_axes), 3]]
    columns_first = image.file_axes[::-1]
    return bring_onto(
        np.transpose(stored, columns_first), affine[:, [*columns_first, 3]] if is_placed else None, image.grid, name
    )
