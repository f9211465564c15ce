"""Clicks and boxes of a viewer, on an image: as hints for weights that take them, else as a choice among parts."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from monailabel_app.tasks.question import FilePoint, Pointing
from rcmed.description import DeterministicDescriber, describe_findings
from rcmed.errors import InputError
from rcmed.findings import Finding
from rcmed.hints import Hint
from rcmed.image import Image
from rcmed.measurements import find_boxes, measure

Voxel = tuple[int, int, int]
MOST_REMEMBERED = 256


@dataclass(frozen=True)
class GridPointing:
    """A `Pointing` in the image's own indices.

    Attributes:
        inside, outside: voxels (slice, row, column).
        box: ((first, last) of slice, row, column), inclusive and within the grid.
    """

    inside: tuple[Voxel, ...] = ()
    outside: tuple[Voxel, ...] = ()
    box: tuple[tuple[int, int], tuple[int, int], tuple[int, int]] | None = None

    def __bool__(self) -> bool:
        return bool(self.inside or self.outside or self.box)


def on_grid(pointing: Pointing, image: Image) -> GridPointing:
    """Bring voxels of the file to indices (slice, row, column) of the image.

    Raises:
        InputError: a click lies outside the image, or the box has no part in it.
    """
    box = None
    if pointing.box is not None:
        spans = [pointing.box[axis] for axis in image.file_axes]
        clipped = [
            (max(low, 0), min(high, size - 1)) for (low, high), size in zip(spans, image.grid.shape, strict=True)
        ]
        if any(low > high for low, high in clipped):
            raise InputError(f"the box {list(pointing.box)} lies outside the image of {_file_shape(image)} voxels")
        box = (clipped[0], clipped[1], clipped[2])
    return GridPointing(_voxels(pointing.inside, image), _voxels(pointing.outside, image), box)


def _voxels(points: tuple[FilePoint, ...], image: Image) -> tuple[Voxel, ...]:
    voxels = []
    for point in points:
        slice_, row, column = (point[axis] for axis in image.file_axes)
        if not all(0 <= index < size for index, size in zip((slice_, row, column), image.grid.shape, strict=True)):
            raise InputError(f"the point {list(point)} lies outside the image of {_file_shape(image)} voxels")
        voxels.append((slice_, row, column))
    return tuple(voxels)


def _file_shape(image: Image) -> str:
    order = np.argsort(image.file_axes)
    return " x ".join(str(image.grid.shape[axis]) for axis in order)


def as_hints(pointing: GridPointing) -> dict[int, Hint]:
    """Hints by slice, for weights that take them."""
    box, slices = None, {voxel[0] for voxel in (*pointing.inside, *pointing.outside)}
    if pointing.box is not None:
        boxed, rows, columns = pointing.box
        slices |= set(range(boxed[0], boxed[1] + 1))
        box = (float(rows[0]), float(columns[0]), float(rows[1]), float(columns[1]))
    hints = {}
    for index in sorted(slices):
        in_box = pointing.box is not None and pointing.box[0][0] <= index <= pointing.box[0][1]
        hints[index] = Hint(
            inside=tuple((float(row), float(column)) for at, row, column in pointing.inside if at == index),
            outside=tuple((float(row), float(column)) for at, row, column in pointing.outside if at == index),
            box=box if in_box else None,
        )
    return hints


def choose_parts(mask: NDArray[np.bool_], pointing: GridPointing) -> NDArray[np.bool_]:
    """Keep the connected parts (26 neighbours) that clicks inside touch, drop those that clicks outside touch.

    Without clicks inside every part stays that no click outside touches; a box cuts what lies beyond it.

    Args:
        mask: bool (slice, row, column).
    """
    kept = mask.copy()
    if pointing.box is not None:
        within = np.zeros_like(mask)
        within[tuple(slice(low, high + 1) for low, high in pointing.box)] = True
        kept &= within
    if not (pointing.inside or pointing.outside):
        return kept
    parts, count = ndimage.label(kept, structure=np.ones((3, 3, 3)))
    wanted = np.zeros(count + 1, dtype=bool)
    wanted[1:] = not pointing.inside
    for voxel in pointing.inside:
        wanted[parts[voxel]] = True
    for voxel in pointing.outside:
        wanted[parts[voxel]] = False
    wanted[0] = False
    chosen: NDArray[np.bool_] = wanted[parts]
    return chosen


def chosen_part(finding: Finding, pointing: GridPointing, image: Image) -> tuple[Finding, str | None]:
    """What a viewer is shown of a finding of weights that take no hints: the parts that `choose_parts` keeps.

    Measurements, boxes and words are those of what is kept. A click beside all parts can't add one, and it takes none
    away: the finding stays as it was.

    Returns:
        the finding, and why it stays although a click asks for more; None where nothing is to be said.
    """
    mask = finding.mask
    if mask is None or not pointing:
        return finding, None
    kept = choose_parts(mask, pointing)
    name = finding.prompt if finding.target is None else finding.target.name
    if pointing.inside and not kept.any():
        return finding, f"no part of `{name}` lies at the clicks, and these weights can't grow one there: all is shown"
    if kept.sum() == mask.sum():
        return finding, None
    if not kept.any():
        return replace(finding, mask=None, boxes=(), measurements=(), description=""), None
    cut = replace(finding, mask=kept, boxes=find_boxes(kept), measurements=measure(kept, image), description="")
    (described,) = describe_findings(image, [cut], DeterministicDescriber())
    return described, None


class PointMemory:
    """Tells points that OHIF kept from an earlier run from new ones.

    OHIF sends points of an earlier run again with another class or another image. The same set of points belongs to
    the image and class with which it came first.
    """

    def __init__(self) -> None:
        self._first: OrderedDict[Hashable, Hashable] = OrderedDict()

    def is_stale(self, pointing: Pointing, image: str, words: tuple[str, ...]) -> bool:
        """Whether these points came first with another image or other words; remembers them where they are new."""
        if not pointing:
            return False
        key = (pointing.inside, pointing.outside, pointing.box)
        first = self._first.setdefault(key, (image, words))
        self._first.move_to_end(key)
        while len(self._first) > MOST_REMEMBERED:
            self._first.popitem(last=False)
        return first != (image, words)
