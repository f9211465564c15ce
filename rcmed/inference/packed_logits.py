"""Mask logits of a volume in few bytes: of many targets they would fill the memory."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, int8

HIGHEST = 8.0
"""Logits beyond this, to either side, are as good as this: a mask is as sure there as it can be."""
_STEPS = 127
_FAST = 1


class PackedLogits:
    """Logits of a target in the slices of a volume, each slice in compressed bytes on the model's grid.

    They are kept between -8 and 8 in steps of a sixteenth; a slice that is nowhere above -8 takes nothing.

    Attributes:
        slices: how many the volume has.
    """

    def __init__(self, slices: int) -> None:
        """Of a volume with so many slices, none of which has been read."""
        self.slices = slices
        self._shape: tuple[int, int] = (1, 1)
        self._kept: dict[int, bytes] = {}

    def put(self, first: int, logits: Tensor) -> None:
        """Let the slices from `first` on have these logits, float (slice, r, c)."""
        self._shape = (logits.shape[1], logits.shape[2])
        steps = (logits.float().clamp(-HIGHEST, HIGHEST) * (_STEPS / HIGHEST)).round().to(dtype=int8).cpu().numpy()
        for index, values in enumerate(steps, start=first):
            if values.max() > -_STEPS:
                self._kept[index] = zlib.compress(np.ascontiguousarray(values).tobytes(), _FAST)
            else:
                self._kept.pop(index, None)

    @property
    def was_put(self) -> bool:
        """Whether any slice was told."""
        return self._shape != (1, 1)

    def any(self) -> bool:
        """Whether any slice is anywhere above the lowest value."""
        return bool(self._kept)

    def unpack(self, first: int, end: int) -> NDArray[np.float32]:
        """The slices from `first` to before `end`, float32 (slice, r, c)."""
        rows, columns = self._shape
        logits = np.full((end - first, rows, columns), -HIGHEST, dtype=np.float32)
        for index in self._kept.keys() & set(range(first, end)):
            steps = np.frombuffer(zlib.decompress(self._kept[index]), dtype=np.int8).reshape(rows, columns)
            np.multiply(steps, HIGHEST / _STEPS, out=logits[index - first], casting="unsafe")
        return logits

    @property
    def nbytes(self) -> int:
        """Bytes that are taken."""
        return sum(len(kept) for kept in self._kept.values())
