"""Where a region lies: in the image, in the body, in which slices."""

from __future__ import annotations

import numpy as np

from rcmed.description.region import Region
from rcmed.measurements import is_three_dimensional

# A centre of mass within the middle third of the image is "in the centre".
_HALF_OF_MIDDLE_THIRD = 1 / 6
# A body side is named from this share of the image's width beside the image's middle.
_SIDE_MARGIN = 0.05


def image_place(region: Region) -> str:
    """The part of the image that the centre of mass lies in, as the image is stored (row down, column right)."""
    shape = np.array(region.image.grid.shape)
    # From the middle of the image and rounded, so that a mirrored mask gives exactly the mirrored words.
    _, row, column = np.round((region.centre() - (shape - 1) / 2) / shape, 9)
    vertical = "" if abs(row) <= _HALF_OF_MIDDLE_THIRD else "upper" if row < 0 else "lower"
    horizontal = "" if abs(column) <= _HALF_OF_MIDDLE_THIRD else "left" if column < 0 else "right"
    if vertical and horizontal:
        return f"in the {vertical} {horizontal} of the image"
    if vertical:
        return f"in the {vertical} middle of the image"
    if horizontal:
        return f"in the middle {horizontal} of the image"
    return "in the centre of the image"


def body_side(region: Region) -> str | None:
    """Whether a region lies towards the patient's left or right, seen from the middle of the image.

    Returns:
        "left" or "right"; None where the position in the patient is unknown, where the image does not extend from
        left to right (sagittal slices), or where the region lies in the middle.
    Source: DICOM PS3.3 C.7.6.2.1.1, the first patient axis grows towards the patient's left.
    """
    grid = region.image.grid
    if not grid.in_patient_coordinates:
        return None
    shape = np.array(grid.shape)
    to_left = grid.affine[0, :3]
    extent = float(np.abs(to_left) @ shape)
    # Sagittal slices: the little that they extend from left to right says nothing of a side.
    if extent < 0.5 * max(np.abs(grid.affine[axis, :3]) @ shape for axis in (1, 2)):
        return None
    offset = float(to_left @ (region.centre() - (shape - 1) / 2))
    if round(abs(offset) / extent, 9) < _SIDE_MARGIN:
        return None
    return "left" if offset > 0 else "right"


def slice_range(region: Region) -> str | None:
    """The slices (frames of a loop), counted from 1, that show a region; None for a single image."""
    total = region.image.grid.shape[0]
    if total == 1:
        return None
    word = "slice" if is_three_dimensional(region.image) else "frame"
    first, last = region.first[0] + 1, region.end[0]
    if first == last:
        return f"in {word} {first} of {total}"
    return f"from {word} {first} to {last} of {total}"
