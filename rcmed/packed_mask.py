"""A mask in bits instead of bytes: what is found in a volume must not take its memory once for each target."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from rcmed.errors import GridMismatchError

_FAST = 1


class PackedMask:
    """A mask, bool (slice, row, column), kept slice by slice in packed and compressed bits.

    It takes an eighth of the mask at most, and of a region as bodies have them about a hundredth.

    Attributes:
        shape: (slice, row, column).
        areas: int64 (slice,), pixels of the mask in each slice.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        """An empty mask of this shape (slice, row, column)."""
        self.shape = shape
        self.areas: NDArray[np.int64] = np.zeros(shape[0], dtype=np.int64)
        self._slices: dict[int, bytes] = {}

    @classmethod
    def of(cls, mask: NDArray[np.bool_]) -> PackedMask:
        """A mask, bool (slice, row, column), packed.

        Raises:
            GridMismatchError: it has other axes.
        """
        if mask.ndim != 3:
            raise GridMismatchError(f"a mask has the axes (slice, row, column), not {mask.ndim} of them: {mask.shape}")
        packed = cls((mask.shape[0], mask.shape[1], mask.shape[2]))
        packed.put(0, mask)
        return packed

    def put(self, first: int, masks: NDArray[np.bool_]) -> None:
        """Let the slices from `first` on be those of `masks`, bool (slice, row, column)."""
        for index, mask in enumerate(masks, start=first):
            self.areas[index] = np.count_nonzero(mask)
            if self.areas[index]:
                self._slices[index] = zlib.compress(np.packbits(mask).tobytes(), _FAST)
            else:
                self._slices.pop(index, None)

    def any(self) -> bool:
        """Whether it holds anything."""
        return bool(self._slices)

    def __getitem__(self, index: int) -> NDArray[np.bool_]:
        """One slice: bool (row, column)."""
        return self.unpack(index, index + 1)[0]

    def unpack(self, first: int = 0, end: int | None = None) -> NDArray[np.bool_]:
        """The slices from `first` to before `end` (None: to the last): bool (slice, row, column), of their own."""
        end = self.shape[0] if end is None else end
        _, rows, columns = self.shape
        masks = np.zeros((end - first, rows, columns), dtype=bool)
        for index in self._slices.keys() & set(range(first, end)):
            bits = np.frombuffer(zlib.decompress(self._slices[index]), dtype=np.uint8)
            masks[index - first] = np.unpackbits(bits, count=rows * columns).reshape(rows, columns)
        return masks

    @property
    def nbytes(self) -> int:
        """Bytes that its bits take."""
        return sum(len(bits) for bits in self._slices.values())
