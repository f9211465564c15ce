"""A region in one sentence, from its geometry alone: the same mask always gives the same words."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.measure import regionprops

from rcmed.image import Image
from rcmed.measurements import find_parts, is_three_dimensional, largest_slice, measure
from rcmed.vocabulary import Target

# A centre of mass within the middle third of the image is "in the centre".
_HALF_OF_MIDDLE_THIRD = 1 / 6
# A body side is named from this share of the image's width beside the image's middle.
_SIDE_MARGIN = 0.05
_DOT_PIXELS = 12


def describe(mask: NDArray[np.bool_], image: Image, target: Target) -> str:
    """Say in one sentence what a region is like: parts, shape, size, place.

    Args:
        mask: bool (slice, row, column) on `image.grid`.
        image: gives spacing, extent and patient coordinates.
        target: gives the name.
    Returns:
        a sentence; sizes in mm2, mm3 or cm3 only where the grid has millimetres, otherwise as a share of the image.
        Empty for an empty mask.
    Raises:
        GridMismatchError: the mask does not lie on the image's grid.
    """
    image.grid.require_mask(mask)
    parts = find_parts(mask)
    if not len(parts.sizes):
        return ""
    shape = _shape_word(parts.mask(0), image)
    if len(parts.sizes) == 1:
        regions = f"one {shape} region"
    else:
        regions = f"{len(parts.sizes)} regions, the largest {shape}"
    phrases = [regions, _size(mask, image), _place(mask)]
    side = body_side(mask, image)
    if side:
        phrases.append(f"towards the patient's {side}")
    if image.grid.shape[0] > 1:
        phrases.append(_slices(mask, "slice" if is_three_dimensional(image) else "frame"))
    return f"{target.name[:1].upper()}{target.name[1:]}: {', '.join(phrases)}."


def body_side(mask: NDArray[np.bool_], image: Image) -> str | None:
    """Whether a region lies towards the patient's left or right, seen from the middle of the image.

    Returns:
        "left" or "right"; None where the position in the patient is unknown, where the image does not extend from
        left to right (sagittal slices), or where the region lies in the middle.
    Source: DICOM PS3.3 C.7.6.2.1.1, the first patient axis grows towards the patient's left.
    """
    if not image.grid.in_patient_coordinates:
        return None
    to_left = image.grid.affine[0, :3]
    extent = float(np.abs(to_left) @ np.array(image.grid.shape))
    # Sagittal slices: the little that they extend from left to right says nothing of a side.
    if extent < 0.5 * max(np.abs(image.grid.affine[axis, :3]) @ np.array(image.grid.shape) for axis in (1, 2)):
        return None
    offset = float(to_left @ (_centre(mask) - (np.array(image.grid.shape) - 1) / 2))
    if round(abs(offset) / extent, 9) < _SIDE_MARGIN:
        return None
    return "left" if offset > 0 else "right"


def _centre(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Centre of mass (slice, row, column); from projections, to spare the memory of all indices."""
    total = mask.sum()
    centre = []
    for axis, others in enumerate(((1, 2), (0, 2), (0, 1))):
        centre.append(float(mask.sum(axis=others) @ np.arange(mask.shape[axis])) / total)
    return np.array(centre)


def _size(mask: NDArray[np.bool_], image: Image) -> str:
    measurements = {m.name: m for m in measure(mask, image)}
    if "volume" in measurements:
        volume = measurements["volume"]
        return f"{_number(volume.value)} {volume.unit}"
    if "area" in measurements:
        area, diameter = measurements["area"], measurements["longest diameter"]
        return f"{_number(area.value)} {area.unit}, up to {_number(diameter.value)} {diameter.unit} across"
    if is_three_dimensional(image):
        return f"{_number(100 * float(mask.mean()))}% of the volume"
    return f"{_number(100 * float(mask[largest_slice(mask)].mean()))}% of the image"


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def _place(mask: NDArray[np.bool_]) -> str:
    # From the middle of the image and rounded, so that a mirrored mask gives exactly the mirrored words.
    _, row, column = np.round((_centre(mask) - (np.array(mask.shape) - 1) / 2) / np.array(mask.shape), 9)
    vertical = "" if abs(row) <= _HALF_OF_MIDDLE_THIRD else "upper" if row < 0 else "lower"
    horizontal = "" if abs(column) <= _HALF_OF_MIDDLE_THIRD else "left" if column < 0 else "right"
    if vertical and horizontal:
        return f"in the {vertical} {horizontal} of the image"
    if vertical:
        return f"in the {vertical} middle of the image"
    if horizontal:
        return f"in the middle {horizontal} of the image"
    return "in the centre of the image"


def _slices(mask: NDArray[np.bool_], word: str) -> str:
    present = np.flatnonzero(mask.any(axis=(1, 2)))
    first, last = int(present[0]) + 1, int(present[-1]) + 1
    if first == last:
        return f"in {word} {first} of {len(mask)}"
    return f"from {word} {first} to {last} of {len(mask)}"


def _shape_word(part: NDArray[np.bool_], image: Image) -> str:
    """One word for the outline of a part on the slice where it is largest."""
    region = part[largest_slice(part)]
    if region.sum() < _DOT_PIXELS:
        return "dot-like"
    _, row_spacing, column_spacing = image.grid.spacing
    properties = regionprops(region.astype(np.uint8), spacing=(row_spacing, column_spacing))[0]
    solidity = float(properties.solidity)
    stretch = float(properties.axis_major_length) / max(float(properties.axis_minor_length), 1e-6)
    if solidity < 0.45:
        return "branching"
    if solidity < 0.8:
        return "irregular"
    if stretch >= 2.2:
        return "elongated"
    return "oval" if stretch >= 1.25 else "round"
