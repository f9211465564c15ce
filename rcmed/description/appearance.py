"""How a region looks against its surroundings: border, brightness, texture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from rcmed.description.region import Region

_FEWEST_PIXELS = 12
# Surroundings are a ring as wide as a quarter of the region's radius, within these bounds.
_NARROWEST_RING, _WIDEST_RING = 3, 15
# A large region is looked at in fewer pixels: distances to its border would take seconds.
_LARGEST_EDGE = 512
# In standard deviations of the pixels inside and around.
_ALIKE, _MUCH = 0.3, 1.5
_SHARP, _BLURRED = 0.6, 0.3
_COARSER = 1.4
# ITU-R BT.601, as colour pictures become grey.
_LUMINANCE = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class Appearance:
    """What the pixels of a region say.

    Attributes:
        border: "sharp", "blurred", "moderately sharp" or "indistinct".
        brightness: against the surroundings ("much darker than").
        texture: against the surroundings ("coarser"); None where neither has any.
    """

    border: str
    brightness: str
    texture: str | None


def appearance(region: Region) -> Appearance | None:
    """Look at a region on the slice where it is largest; None for a few pixels or without surroundings."""
    index = region.largest_slice
    if region.packed.areas[index] < _FEWEST_PIXELS:
        return None
    mask, pixels = _with_surroundings(region, index)
    inside = ndimage.distance_transform_edt(np.pad(mask, 1, mode="edge"))[1:-1, 1:-1] if not mask.all() else None
    if inside is None:
        return None
    outside = ndimage.distance_transform_edt(~mask)
    known = np.isfinite(pixels)
    width = _ring_width(int(mask.sum()))
    core, ring = pixels[mask & known], pixels[(outside > 0) & (outside <= width) & known]
    if core.size < _FEWEST_PIXELS or ring.size < _FEWEST_PIXELS:
        return None
    spread = float(np.sqrt((core.var() + ring.var()) / 2))
    difference = float(core.mean() - ring.mean())
    # A region of one grey on ground of another has no spread, but is different all the same.
    strength = round(difference / spread, 6) if spread > 1e-9 else float(np.sign(round(difference, 9))) * 2 * _MUCH
    return Appearance(
        border=_border(pixels, inside, outside, known, abs(strength)),
        brightness=_brightness(strength),
        texture=_texture(pixels, mask & known, (outside > 0) & (outside <= width) & known),
    )


def _with_surroundings(region: Region, index: int) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Mask and grey values, (row, column) each, of the region's slice with a margin around the region."""
    shape = region.image.grid.shape
    area = int(region.packed.areas[index])
    step = max(1, -(-max(region.packed.shape[1:]) // _LARGEST_EDGE))
    margin = step * (_ring_width(area // step**2) + 1)
    number = region.first[0] + index
    first = (number, max(0, region.first[1] - margin), max(0, region.first[2] - margin))
    end = (number + 1, min(shape[1], region.end[1] + margin), min(shape[2], region.end[2] + margin))
    mask = region.within(first, end)[0, ::step, ::step]
    pixels = region.image.pixels[number, first[1] : end[1] : step, first[2] : end[2] : step]
    grey = pixels @ _LUMINANCE if region.image.is_colour else pixels.astype(np.float64)
    return mask, grey


def _ring_width(area: int) -> int:
    return int(np.clip(round(0.25 * np.sqrt(area / np.pi)), _NARROWEST_RING, _WIDEST_RING))


def _border(
    pixels: NDArray[np.float64],
    inside: NDArray[np.float64],
    outside: NDArray[np.float64],
    known: NDArray[np.bool_],
    strength: float,
) -> str:
    """How much of the step between inside and outside is taken in the pixels on either side of the border."""
    if strength < _ALIKE:
        return "indistinct"
    deep = min(3.0, 0.6 * float(inside.max()))
    bands = (
        (inside > 0) & (inside <= 1.5),
        (outside > 0) & (outside <= 1.5),
        (inside >= deep) & (inside <= deep + 2),
        (outside >= 3) & (outside <= 5),
    )
    if not all((band & known).any() for band in bands):
        return "indistinct"
    inner, outer, far_in, far_out = (float(pixels[band & known].mean()) for band in bands)
    whole = far_in - far_out
    share = round((inner - outer) / whole, 6) if abs(whole) > 1e-9 else 0.0
    if share >= _SHARP:
        return "sharp"
    return "blurred" if share < _BLURRED else "moderately sharp"


def _brightness(strength: float) -> str:
    if abs(strength) < _ALIKE:
        return "as bright as"
    word = "brighter than" if strength > 0 else "darker than"
    return f"much {word}" if abs(strength) >= _MUCH else word


def _texture(pixels: NDArray[np.float64], core: NDArray[np.bool_], ring: NDArray[np.bool_]) -> str | None:
    """Compare how much neighbouring pixels differ; the border itself is no texture."""
    within = ndimage.binary_erosion(core)
    around = ndimage.binary_erosion(ring)
    if np.count_nonzero(within) < _FEWEST_PIXELS or np.count_nonzero(around) < _FEWEST_PIXELS:
        return None
    detail = np.nan_to_num(pixels) - ndimage.uniform_filter(np.nan_to_num(pixels), 3)
    mine, others = float(detail[within].std()), float(detail[around].std())
    if max(mine, others) < 1e-9:
        return None
    ratio = round(mine / max(others, 1e-9), 6)
    if ratio >= _COARSER:
        return "a coarser texture"
    return "a finer texture" if ratio <= 1 / _COARSER else "a similar texture"
