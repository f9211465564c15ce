"""How regions lie to each other: inside, around, overlapping, adjacent, beside."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from rcmed.description.region import Corner, Region

MOST_RELATIONS = 4
_MOST_DIRECTIONS = 2
# Shares of the smaller region, and of the voxels around it.
_INSIDE, _OVERLAPS, _SURROUNDED = 0.9, 0.05, 0.8
_SAME, _IN, _CONTAINS = "is about the same region as", "lies inside", "contains"
_SURROUNDED_BY, _SURROUNDS = "is surrounded by", "surrounds"
_OVERLAP, _ADJACENT = "overlaps", "is adjacent to"
_CLOSE = (_SAME, _IN, _SURROUNDED_BY, _CONTAINS, _SURROUNDS, _OVERLAP, _ADJACENT)
_IN_PATIENT = (
    ("lies to the patient's right of", "lies to the patient's left of"),
    ("lies in front of", "lies behind"),
    ("lies below", "lies above"),
)
_IN_IMAGE = (
    ("lies in earlier slices than", "lies in later slices than"),
    ("lies above", "lies below"),
    ("lies to the left of", "lies to the right of"),
)


def relations(region: Region, others: Sequence[Region]) -> list[str]:
    """Phrases that say how a region lies to others, the closest relations first.

    Directions are those of the patient where the grid knows them, else those of the image; they are told of the two
    nearest regions only, and of none that the region overlaps or touches.

    Args:
        region: of which is spoken.
        others: on the same grid, as many as are known; the region itself is passed over.
    Returns:
        phrases such as "lies inside the left kidney", of `MOST_RELATIONS` other regions at most.
    """
    found: list[tuple[int, float, str, str]] = []
    for other in others:
        phrase = None if other is region else _relation(region, other)
        if phrase is not None:
            rank = _CLOSE.index(phrase) if phrase in _CLOSE else len(_CLOSE)
            found.append((rank, _gap(region, other), other.name, phrase))
    found.sort()
    close = [(phrase, name) for rank, _, name, phrase in found if rank < len(_CLOSE)]
    beside = [(phrase, name) for rank, _, name, phrase in found if rank == len(_CLOSE)]
    named: dict[str, list[str]] = {}
    for phrase, name in [*close, *beside[:_MOST_DIRECTIONS]][:MOST_RELATIONS]:
        named.setdefault(phrase, []).append(f"the {name}")
    return [f"{phrase} {listed(names)}" for phrase, names in named.items()]


def listed(phrases: Sequence[str]) -> str:
    """Phrases as people list them: "a, b and c"."""
    return phrases[0] if len(phrases) == 1 else ", ".join(phrases[:-1]) + " and " + phrases[-1]


def _relation(region: Region, other: Region) -> str | None:
    meeting = _meeting(region, other)
    if meeting is None:
        return _direction(region, other)
    first, end = meeting
    mine, theirs = region.within(first, end), other.within(first, end)
    common = int(np.count_nonzero(mine & theirs))
    of_mine, of_theirs = common / region.voxels, common / other.voxels
    if min(of_mine, of_theirs) >= _INSIDE:
        return _SAME
    if of_mine >= _INSIDE:
        return _IN
    if of_theirs >= _INSIDE:
        return _CONTAINS
    if max(of_mine, of_theirs) >= _OVERLAPS:
        return _OVERLAP
    if _surrounds(other, region):
        return _SURROUNDED_BY
    if _surrounds(region, other):
        return _SURROUNDS
    if common or _touch(mine, theirs):
        return _ADJACENT
    return _direction(region, other)


def _meeting(region: Region, other: Region) -> tuple[Corner, Corner] | None:
    """The box in which two regions can touch: where their boxes, one voxel wider, overlap."""
    first = [max(a, b) - 1 for a, b in zip(region.first, other.first, strict=True)]
    end = [min(a, b) + 1 for a, b in zip(region.end, other.end, strict=True)]
    if any(start >= stop for start, stop in zip(first, end, strict=True)):
        return None
    return (first[0], first[1], first[2]), (end[0], end[1], end[2])


def _touch(mine: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> bool:
    """Whether two masks share the face of a voxel."""
    for axis in range(3):
        before = tuple(slice(None, -1) if i == axis else slice(None) for i in range(3))
        after = tuple(slice(1, None) if i == axis else slice(None) for i in range(3))
        if (mine[before] & theirs[after]).any() or (mine[after] & theirs[before]).any():
            return True
    return False


def _surrounds(outer: Region, inner: Region) -> bool:
    """Whether most voxels around `inner`, within its slices, belong to `outer`."""
    if any(o > i for o, i in zip(outer.first[1:], inner.first[1:], strict=True)):
        return False
    if any(o < i for o, i in zip(outer.end[1:], inner.end[1:], strict=True)):
        return False
    first = (inner.first[0], inner.first[1] - 1, inner.first[2] - 1)
    end = (inner.end[0], inner.end[1] + 1, inner.end[2] + 1)
    mask = inner.within(first, end)
    cross = ndimage.generate_binary_structure(2, 1)[None]
    around = ndimage.binary_dilation(mask, cross) & ~mask
    return bool(np.count_nonzero(around & outer.within(first, end)) >= _SURROUNDED * np.count_nonzero(around))


def _direction(region: Region, other: Region) -> str | None:
    """The direction along the grid's axis on which two boxes lie furthest apart; None where they share all axes."""
    spacing = region.image.grid.spacing
    gaps = [
        (max(theirs - mine_end, mine - theirs_end) * step, axis)
        for axis, (mine, mine_end, theirs, theirs_end, step) in enumerate(
            zip(region.first, region.end, other.first, other.end, spacing, strict=True)
        )
    ]
    gap, axis = max(gaps)
    if gap < 0:
        return None
    is_after = region.first[axis] >= other.end[axis]
    grid = region.image.grid
    if grid.in_patient_coordinates:
        column = grid.affine[:3, axis]
        patient_axis = int(np.abs(column).argmax())
        return _IN_PATIENT[patient_axis][int(is_after == (column[patient_axis] > 0))]
    return _IN_IMAGE[axis][int(is_after)]


def _gap(region: Region, other: Region) -> float:
    """Distance in mm (pixels) between the boxes around two regions; 0 where they overlap."""
    steps = [
        max(theirs - mine_end, mine - theirs_end, 0) * step
        for mine, mine_end, theirs, theirs_end, step in zip(
            region.first, region.end, other.first, other.end, region.image.grid.spacing, strict=True
        )
    ]
    return round(float(np.linalg.norm(steps)), 6)
