"""A region cut out of its image: all that is said of it is worked out in the box around it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rcmed.image import Image
from rcmed.packed_mask import PackedMask

Corner = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Region:
    """A named region.

    Attributes:
        name: of the target.
        image: that it lies in.
        packed: the mask within the box around it; not empty.
        first: voxel index (slice, row, column) of the crop's first voxel.
        voxels: how many it has.
    """

    name: str
    image: Image
    packed: PackedMask
    first: Corner
    voxels: int

    @property
    def crop(self) -> NDArray[np.bool_]:
        """The mask within the box around the region, bool (slice, row, column); unpacked each time."""
        return self.packed.unpack()

    @classmethod
    def of(cls, name: str, mask: NDArray[np.bool_], image: Image) -> Region | None:
        """The region of a mask, bool (slice, row, column) on `image.grid`; None for an empty one.

        Raises:
            GridMismatchError: the mask does not lie on the image's grid.
        """
        image.grid.require_mask(mask)
        slices = np.flatnonzero(mask.any(axis=(1, 2)))
        if not slices.size:
            return None
        slab = mask[slices[0] : slices[-1] + 1]
        plane = slab.any(axis=0)
        rows, columns = np.flatnonzero(plane.any(axis=1)), np.flatnonzero(plane.any(axis=0))
        crop = slab[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        first = (int(slices[0]), int(rows[0]), int(columns[0]))
        return cls(name, image, PackedMask.of(crop), first, int(np.count_nonzero(crop)))

    @property
    def end(self) -> Corner:
        """One beyond the last voxel index (slice, row, column)."""
        first, extent = self.first, self.packed.shape
        return first[0] + extent[0], first[1] + extent[1], first[2] + extent[2]

    @property
    def largest_slice(self) -> int:
        """Index within the crop of the slice with the most pixels; the first among equals."""
        return int(self.packed.areas.argmax())

    def centre(self) -> NDArray[np.float64]:
        """Centre of mass as a voxel index (slice, row, column) of the image."""
        crop, middle = self.crop, []
        for axis, others in enumerate(((1, 2), (0, 2), (0, 1))):
            counts = np.count_nonzero(crop, axis=others)
            middle.append(float(counts @ np.arange(crop.shape[axis])) / self.voxels)
        return np.array(middle) + np.array(self.first)

    def within(self, first: Corner, end: Corner) -> NDArray[np.bool_]:
        """The mask in a box of voxel indices from `first` to before `end`, which may reach beyond the crop."""
        box = np.zeros([stop - start for start, stop in zip(first, end, strict=True)], dtype=bool)
        inside = [
            (max(start, mine), min(stop, last))
            for start, stop, mine, last in zip(first, end, self.first, self.end, strict=True)
        ]
        if all(start < stop for start, stop in inside):
            there = tuple(
                slice(start - origin, stop - origin) for (start, stop), origin in zip(inside, first, strict=True)
            )
            here = tuple(
                slice(start - origin, stop - origin) for (start, stop), origin in zip(inside, self.first, strict=True)
            )
            box[there] = self.packed.unpack(here[0].start, here[0].stop)[:, here[1], here[2]]
        return box
