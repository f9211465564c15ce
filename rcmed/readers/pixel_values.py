"""Pixel values that are not what they seem: no numbers, and a CT whose values can't be HU."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcmed.errors import UnreadableFileError
from rcmed.image import UNKNOWN_UNIT, Image
from rcmed.modality import Modality

# Air and lung are darker, all else of a patient is brighter: a CT without anything below has no HU, or shows no air.
_DARKEST_TISSUE = -200
# Where soft tissue lies when 1024 was added to it, as scanners store it. In HU that is hard bone, and more is below it.
_STORED_TISSUE = (800, 1300)
_BELOW = (30, 800)
_LEAST_STORED_TISSUE = 0.02
# Air, water and bone are apart by 1000; values normalised by their mean and spread by a few units.
_LEAST_RANGE = 50
# The extended scale ends at 30710.
_LARGEST = 2**15
_SAMPLES = 1_000_000


def checked_values(image: Image, name: str) -> Image:
    """The image with what its values allow: non-finite ones as background, a CT without HU told as such.

    Args:
        image: as its reader made it.
        name: of the file or the series, for the lines.
    Returns:
        the same image, or one with other pixels, another unit and a line for each in its warnings.
    Raises:
        UnreadableFileError: no value is a number.
    """
    pixels, line = finite_pixels(image.pixels, name)
    if line is not None:
        image = replace(image, pixels=pixels, warnings=(*image.warnings, line))
    if image.modality is Modality.CT and image.unit is None and not image.is_colour:
        doubt = hounsfield_doubt(image.pixels)
        if doubt is not None:
            is_picture = image.pixels.dtype.itemsize == 1 and not image.grid.in_patient_coordinates
            doubts = () if is_picture else (f"{name}: {doubt}; no HU is measured: give the CT in HU",)
            image = replace(image, unit=UNKNOWN_UNIT, warnings=(*image.warnings, *doubts))
    return image


def finite_pixels(pixels: NDArray[Any], name: str) -> tuple[NDArray[Any], str | None]:
    """Values that are no numbers (NaN, infinite) as background, the lowest number; and a line where there were any.

    Raises:
        UnreadableFileError: there is no number at all.
    """
    if pixels.dtype.kind != "f":
        return pixels, None
    is_number = np.isfinite(pixels)
    others = int(pixels.size - np.count_nonzero(is_number))
    if not others:
        return pixels, None
    if others == pixels.size:
        raise UnreadableFileError(f"{name}: none of its values is a number; nothing can be seen in it")
    lowest = pixels[is_number].min()
    what = (
        "value that is no number (NaN or infinite) is"
        if others == 1
        else "values that are no numbers (NaN, infinite) are"
    )
    return np.where(is_number, pixels, lowest), f"{name}: {others} {what} read as background, {lowest:g}"


def hounsfield_doubt(pixels: NDArray[Any]) -> str | None:
    """Why grey CT pixels can't be HU, by their values; None where they may be.

    In HU air is -1000, water 0, and a patient lies between: without negative values, with all within a few units, or
    with soft tissue at 1024 above where it belongs, values are others: as stored, windowed to grey levels, normalised.
    """
    if pixels.dtype.itemsize == 1:
        return "its values are 8-bit grey levels, not HU"
    lowest, highest = float(pixels.min()), float(pixels.max())
    run = f"its values run from {lowest:g} to {highest:g}"
    if lowest >= 0:
        return f"{run} without a negative one, as no CT in HU does"
    if highest - lowest < _LEAST_RANGE or max(highest, -lowest) > _LARGEST:
        return f"{run}, as no CT in HU does"
    # Every n-th voxel tells as much of a histogram as all of them.
    sample = pixels.reshape(-1)[:: max(1, pixels.size // _SAMPLES)]
    dark = np.count_nonzero((sample < _DARKEST_TISSUE) & (sample > lowest))
    tissue, below = (np.count_nonzero((sample >= a) & (sample < b)) for a, b in (_STORED_TISSUE, _BELOW))
    if not dark and tissue > max(_LEAST_STORED_TISSUE * sample.size, below):
        return f"{run} with soft tissue near 1024, as scanners store it before the rescale to HU"
    return None
