"""Regions painted in colours on their image, so that a word ("the red region") can point at them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from rcmed.image import Image
from rcmed.packed_mask import PackedMask

FILL = 0.3
"""How much of the colour a region's inside takes; its outline takes all."""


@dataclass(frozen=True)
class Colour:
    """A colour that people have a word for.

    Attributes:
        name: in English.
        rgb: sRGB, 0-255 each.
    """

    name: str
    rgb: tuple[int, int, int]


PALETTE = (
    Colour("red", (255, 0, 0)),
    Colour("green", (0, 200, 0)),
    Colour("blue", (0, 80, 255)),
    Colour("yellow", (255, 225, 0)),
    Colour("magenta", (255, 0, 255)),
    Colour("cyan", (0, 255, 255)),
    Colour("orange", (255, 130, 0)),
    Colour("purple", (130, 0, 200)),
)
"""Colours that are told apart at a glance; what is painted after the last begins anew."""


def paint_regions(
    image: Image, regions: Sequence[tuple[NDArray[np.bool_] | PackedMask, tuple[int, int, int]]], slice_index: int
) -> NDArray[np.uint8]:
    """Paint regions on one slice: the inside tinted, the outline in full colour.

    Args:
        image: grey in any unit or RGB; its window is used where it has one, else the 1st to 99th percentile.
        regions: masks, bool (slice, row, column), with their sRGB colours; later ones lie above earlier ones.
        slice_index: from 0.
    Returns:
        uint8 (row, column, 3) on the slice's own pixels.
    Raises:
        IndexError: there is no such slice.
        GridMismatchError: a mask does not lie on the image's grid.
    """
    if not 0 <= slice_index < image.grid.shape[0]:
        raise IndexError(f"slice {slice_index} of an image with {image.grid.shape[0]} slices")
    picture = displayed(image, slice_index).astype(np.float32)
    for mask, rgb in regions:
        image.grid.require_mask(mask)
        region = mask[slice_index]
        if not region.any():
            continue
        colour = np.asarray(rgb, dtype=np.float32)
        inside = inside_of(region)
        picture[inside] = (1 - FILL) * picture[inside] + FILL * colour
        picture[region & ~inside] = colour
    return np.clip(picture + 0.5, 0, 255).astype(np.uint8)


def displayed(image: Image, slice_index: int) -> NDArray[np.uint8]:
    """One slice as a reader sees it: uint8 (row, column, 3)."""
    pixels = image.pixels[slice_index]
    if image.is_colour:
        return pixels.astype(np.uint8)
    values = pixels.astype(np.float32)
    if image.window is not None and image.window[1] > 0:
        low, high = image.window[0] - image.window[1] / 2, image.window[0] + image.window[1] / 2
    else:
        finite = values[np.isfinite(values)]
        low, high = (0.0, 1.0) if finite.size == 0 else (float(q) for q in np.percentile(finite, (1, 99)))
    return np.repeat(to_grey(values, low, high - low)[..., None], 3, axis=-1)


def inside_of(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A region of a picture, bool (row, column), without its outline, which a larger picture shows wider."""
    inside: NDArray[np.bool_] = ndimage.binary_erosion(region, iterations=max(1, round(min(region.shape) / 256)))
    return inside


def to_grey(values: NDArray[np.float32], low: float, width: float) -> NDArray[np.uint8]:
    """Values in any unit as grey: `low` is black, so much above it white, and what is no number is black."""
    grey = np.nan_to_num((values - low) / max(width, 1e-6), nan=0.0, posinf=1.0, neginf=0.0)
    return (np.clip(grey, 0, 1) * 255 + 0.5).astype(np.uint8)
