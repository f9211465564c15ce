"""The shape of a region, from shape factors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull
from skimage.measure import perimeter_crofton, regionprops

from rcmed.description.region import Region
from rcmed.measurements import Parts, is_three_dimensional

# So few pixels have no shape that a pixel more would not change.
_DOT_PIXELS = 16
# Of the convexity; a circle drawn in pixels measures a few hundredths longer than it is.
_SMOOTH, _LOBULATED = 0.9, 0.75


@dataclass(frozen=True)
class ShapeFactors:
    """Numbers without a unit that tell one outline from another.

    Attributes:
        pixels: how many the outline encloses.
        solidity: area over the area of the convex hull; 1 without dents.
        elongation: longest over second-longest axis of the ellipse (in a volume: ellipsoid) with the same moments.
        convexity: circumference of the convex hull over that of the region; 1 where the outline is smooth.
    """

    pixels: int
    solidity: float
    elongation: float
    convexity: float


def shape_factors(region: Region, parts: Parts) -> ShapeFactors:
    """Of the largest of a region's parts, on the slice where it is largest; a volume's elongation is in space."""
    largest = parts.mask(0)
    outline = largest[int(np.count_nonzero(largest, axis=(1, 2)).argmax())]
    grid = region.image.grid
    pixels = int(outline.sum())
    if pixels < _DOT_PIXELS:
        return ShapeFactors(pixels, 1.0, 1.0, 1.0)
    properties = regionprops(outline.astype(np.uint8), spacing=grid.spacing[1:])[0]
    # In two dimensions scipy calls the area of the hull its volume, and the circumference its area.
    corners = ConvexHull(_border_corners(outline))
    if is_three_dimensional(region.image) and largest.shape[0] > 1:
        elongation = _elongation_in_space(largest, grid.affine[:3, :3])
    else:
        elongation = float(properties.axis_major_length) / max(float(properties.axis_minor_length), 1e-6)
    return ShapeFactors(
        pixels=pixels,
        solidity=round(pixels / float(corners.volume), 6),
        elongation=round(elongation, 6),
        convexity=round(_convexity(outline, float(corners.area)), 6),
    )


def shape_word(factors: ShapeFactors) -> str:
    """ "dot-like", "branching", "irregular", "elongated", "oval" or "round"."""
    if factors.pixels < _DOT_PIXELS:
        return "dot-like"
    if factors.solidity < 0.45:
        return "branching"
    if factors.solidity < 0.8:
        return "irregular"
    if factors.elongation >= 2.2:
        return "elongated"
    return "oval" if factors.elongation >= 1.25 else "round"


def outline_word(factors: ShapeFactors) -> str | None:
    """ "smooth", "lobulated" or "jagged"; None where there are too few pixels to say."""
    if factors.pixels < _DOT_PIXELS:
        return None
    if factors.convexity >= _SMOOTH:
        return "smooth"
    return "lobulated" if factors.convexity >= _LOBULATED else "jagged"


def _elongation_in_space(part: NDArray[np.bool_], to_mm: NDArray[np.float64]) -> float:
    """From second moments, which projections give without the memory of all indices."""
    planes = {(1, 2): 0, (0, 2): 1, (0, 1): 2}
    total = float(np.count_nonzero(part))
    covariance = np.zeros((3, 3))
    for (one, other), along in planes.items():
        counts = np.count_nonzero(part, axis=along).astype(np.float64)
        steps = [np.arange(part.shape[axis], dtype=np.float64) for axis in (one, other)]
        sides = (counts.sum(axis=1), counts.sum(axis=0))
        centred = [step - float(side @ step) / total for step, side in zip(steps, sides, strict=True)]
        covariance[one, other] = covariance[other, one] = float(centred[0] @ counts @ centred[1]) / total
        for axis, step, side in zip((one, other), centred, sides, strict=True):
            # A voxel has a width of its own.
            covariance[axis, axis] = float(side @ step**2) / total + 1 / 12
    lengths = np.sqrt(np.linalg.eigvalsh(to_mm @ covariance @ to_mm.T))
    return float(lengths[2] / max(lengths[1], 1e-6))


def _convexity(outline: NDArray[np.bool_], hull: float) -> float:
    """In pixels: a circumference across pixels that are not square has no agreed estimate. Holes are no outline."""
    around = float(perimeter_crofton(np.pad(ndimage.binary_fill_holes(outline), 1), directions=4))
    return min(1.0, hull / max(around, 1e-6))


def _border_corners(outline: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Corners (row, column) of the first and last pixel of each row: all that a convex hull can pass through."""
    rows = np.flatnonzero(outline.any(axis=1))
    first = outline[rows].argmax(axis=1) - 0.5
    last = outline.shape[1] - 0.5 - outline[rows][:, ::-1].argmax(axis=1)
    above, below = rows - 0.5, rows + 0.5
    return np.stack([np.concatenate([above, above, below, below]), np.concatenate([first, last, first, last])], axis=1)
