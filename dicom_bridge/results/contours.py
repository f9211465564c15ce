"""Outlines of a mask in one slice: closed polygons halfway between the pixels inside and those outside.

A polygon passes at half a pixel's distance from pixel centres, so whoever fills it and asks at pixel centres has the
mask back exactly; through the centres of the outermost pixels, as some programs draw it, half a pixel would be lost all
around. Holes are joined with their outline by a channel of no width, the keyhole of PS3.3 C.8.8.6.3: a reader that
unites polygons, one that takes their exclusive or, and one that knows nothing of holes all see the same region.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import find_contours


def outlines(mask: NDArray[np.bool_]) -> Iterator[NDArray[np.float64]]:
    """The polygons of a mask, one for each part of pixels that share an edge.

    Args:
        mask: bool (row, column).
    Yields:
        float64 (point, 2) as (row, column), in pixels from the centre of the first one. Closed: the last point is
        joined to the first, which is not repeated. At least 4 points.
    """
    parts, _ = ndimage.label(mask)
    for number, place in enumerate(ndimage.find_objects(parts), start=1):
        part = np.pad(parts[place] == number, 1)
        # Pixels outside that touch at a corner are one outside: two parts that do so stay two.
        rings = [ring[:-1] for ring in find_contours(part.astype(np.float32), 0.5, fully_connected="low")]
        first = np.array([place[0].start - 1, place[1].start - 1], dtype=np.float64)
        yield _without_straight_points(_joined(rings, part)) + first


def _joined(rings: list[NDArray[np.float64]], part: NDArray[np.bool_]) -> NDArray[np.float64]:
    """One polygon of the outline and the holes of a part.

    From the top of each hole the channel runs up its column to the next ring, which is the outline or a hole that lies
    higher; so it crosses nothing, and holes hang on the outline as on a tree. Holes run against the outline's direction
    (`find_contours` keeps the inside on one hand): the region is the same by even-odd and by non-zero filling.
    """
    tops = [int(np.argmin(ring[:, 0])) for ring in rings]
    rings = [np.roll(ring, -top, axis=0) for ring, top in zip(rings, tops, strict=True)]
    # The highest ring is the outline: every hole lies below its top.
    rings.sort(key=lambda ring: float(ring[0, 0]))
    if len(rings) == 1:
        return rings[0]
    owner = {
        (int(2 * row), int(2 * column)): (number, index)
        for number, ring in enumerate(rings)
        for index, (row, column) in enumerate(ring)
    }
    hanging: dict[int, list[tuple[int, NDArray[np.float64]]]] = {}
    for number in range(len(rings) - 1, 0, -1):
        hole = _with_what_hangs(rings[number], hanging.pop(number, []))
        row, column = int(hole[0, 0]), int(hole[0, 1])  # of the last pixel above the hole: the top is half below it
        outside = int(np.flatnonzero(~part[: row + 1, column])[-1])
        above, index = owner[(2 * outside + 1, 2 * column)]
        hanging.setdefault(above, []).append((index, hole))
    return _with_what_hangs(rings[0], hanging.pop(0, []))


def _with_what_hangs(ring: NDArray[np.float64], hanging: list[tuple[int, NDArray[np.float64]]]) -> NDArray[np.float64]:
    """A ring that goes at each of these of its points to a hole, around it, and back."""
    pieces = []
    since = 0
    for index, hole in sorted(hanging, key=lambda one: one[0]):
        pieces += [ring[since : index + 1], hole, hole[:1]]
        since = index
    return np.concatenate([*pieces, ring[since:]])


def _without_straight_points(polygon: NDArray[np.float64]) -> NDArray[np.float64]:
    """Without the points at which it does not turn; coordinates are halves, so this is exact."""
    before, after = polygon - np.roll(polygon, 1, axis=0), np.roll(polygon, -1, axis=0) - polygon
    turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    return np.asarray(polygon[turns], dtype=np.float64)
