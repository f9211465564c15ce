"""Slices as a radiologist sees them: the model learned left from right on such slices only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from rcmed.hints import Hint
from rcmed.image import Grid

Length = TypeVar("Length", int, float)
# By the patient axis (LPS) that slices are stacked along: where columns and rows run to on a display. Sagittal: front
# at the left, head at the top; coronal and axial: the patient's left at the right.
_COLUMNS_RUN_TO = {0: (0, 1, 0), 1: (1, 0, 0), 2: (1, 0, 0)}
_ROWS_RUN_TO = {0: (0, 0, -1), 1: (0, 0, -1), 2: (0, 1, 0)}


@dataclass(frozen=True)
class ReaderView:
    """How stored slices are turned for display, and back.

    Attributes:
        transposed: rows and columns change places, first.
        rows_reversed, columns_reversed: then these run the other way.
    """

    transposed: bool = False
    rows_reversed: bool = False
    columns_reversed: bool = False

    @classmethod
    def of(cls, grid: Grid) -> ReaderView:
        """The view of a grid's slices; a grid without a place in the patient is shown as it is stored."""
        if not grid.in_patient_coordinates:
            return cls()
        directions = grid.affine[:3, :3] / np.linalg.norm(grid.affine[:3, :3], axis=0)
        rows, columns = directions[:, 1], directions[:, 2]
        plane = int(np.argmax(np.abs(np.cross(rows, columns))))
        wanted_rows, wanted_columns = np.array(_ROWS_RUN_TO[plane]), np.array(_COLUMNS_RUN_TO[plane])
        transposed = bool(abs(rows @ wanted_rows) < abs(rows @ wanted_columns))
        if transposed:
            rows, columns = columns, rows
        return cls(transposed, bool(rows @ wanted_rows < 0), bool(columns @ wanted_columns < 0))

    def to_view(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Stored (slice, row, column, ...) to the view; a view of the same memory."""
        shown = pixels.swapaxes(1, 2) if self.transposed else pixels
        return shown[:, :: self._step(self.rows_reversed), :: self._step(self.columns_reversed)]

    def from_view(self, shown: NDArray[Any]) -> NDArray[Any]:
        """The way back: (slice, row, column, ...) of the view to the stored order."""
        pixels = shown[:, :: self._step(self.rows_reversed), :: self._step(self.columns_reversed)]
        return pixels.swapaxes(1, 2) if self.transposed else pixels

    def lengths(self, stored: tuple[Length, Length, Length]) -> tuple[Length, Length, Length]:
        """What is counted or measured along (slice, row, column) as stored, along those of the view."""
        return (stored[0], stored[2], stored[1]) if self.transposed else stored

    @property
    def inverse(self) -> ReaderView:
        """The view that turns shown slices, and hints on them, back to the stored order."""
        if self.transposed:
            return ReaderView(True, self.columns_reversed, self.rows_reversed)
        return self

    def hint_to_view(self, hint: Hint, rows: int, columns: int) -> Hint:
        """A hint on a stored slice of rows x columns, on the slice as it is shown."""

        def turned(row: float, column: float) -> tuple[float, float]:
            height, width = (columns, rows) if self.transposed else (rows, columns)
            row, column = (column, row) if self.transposed else (row, column)
            return (
                height - 1 - row if self.rows_reversed else row,
                width - 1 - column if self.columns_reversed else column,
            )

        box = hint.box
        if box is not None:
            corners = [turned(*box[:2]), turned(*box[2:])]
            (first_row, last_row), (first_column, last_column) = (sorted(axis) for axis in zip(*corners, strict=True))
            box = (first_row, first_column, last_row, last_column)
        mask = None if hint.rough_mask is None else self.to_view(hint.rough_mask[None])[0]
        inside, outside = (tuple(turned(*place) for place in places) for places in (hint.inside, hint.outside))
        return Hint(inside, outside, box, mask)

    @staticmethod
    def _step(is_reversed: bool) -> int:
        return -1 if is_reversed else 1
