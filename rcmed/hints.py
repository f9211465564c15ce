"""Where a user points at: clicks, a box or a rough mask in a slice, beside the words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rcmed.errors import InputError

Place = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Hint:
    """What a user points at in one slice. Places are (row, column) in pixels; the first pixel's centre is (0, 0).

    Attributes:
        inside, outside: clicks on the target, and beside it.
        box: (first row, first column, last row, last column), all inclusive.
        rough_mask: bool (row, column) on the slice's grid.
    """

    inside: tuple[Place, ...] = ()
    outside: tuple[Place, ...] = ()
    box: tuple[float, float, float, float] | None = None
    rough_mask: NDArray[np.bool_] | None = None

    @property
    def says_present(self) -> bool:
        """Whether the user says that the target is in this slice."""
        return (
            bool(self.inside) or self.box is not None or (self.rough_mask is not None and bool(self.rough_mask.any()))
        )

    def require_inside(self, rows: int, columns: int) -> None:
        """Check that everything lies on a slice of this size.

        Raises:
            InputError: names what lies beside it, or says that there is no hint at all.
        """
        corners = () if self.box is None else (self.box[:2], self.box[2:])
        for row, column in (*self.inside, *self.outside, *corners):
            if not (-0.5 <= row <= rows - 0.5 and -0.5 <= column <= columns - 0.5):
                raise InputError(f"hint: ({row}, {column}) lies outside the slice of {rows} x {columns} pixels")
        if self.box is not None and (self.box[0] > self.box[2] or self.box[1] > self.box[3]):
            raise InputError(
                f"hint: the box {self.box} ends before it begins; give first row, first column, last, last"
            )
        if self.rough_mask is not None and self.rough_mask.shape != (rows, columns):
            raise InputError(f"hint: the rough mask is {self.rough_mask.shape}, the slice {(rows, columns)}")
        if not (self.inside or self.outside or self.box or self.rough_mask is not None):
            raise InputError("hint: it holds nothing; give a click, a box or a rough mask")
