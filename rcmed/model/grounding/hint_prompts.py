"""Clicks, boxes and rough masks on the model grid, as Segment Anything writes them (Kirillov et al. 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

# Of the masks that the encoder reads.
MASK_STRIDE = 4


class PointLabel(IntEnum):
    """What a point says; a box is its two corners. The numbers are Segment Anything's."""

    NONE = -1
    OUTSIDE = 0
    INSIDE = 1
    FIRST_CORNER = 2
    LAST_CORNER = 3


@dataclass(frozen=True, eq=False)
class PlacedHints:
    """Hints on the model grid, one set for each prompt.

    Attributes:
        points: float (prompt, point, 2), (column, row) in pixels of the model grid, the first one's centre at 0.
        labels: int64 (prompt, point), `PointLabel`.
        masks: float (prompt, r, c) logits at stride `MASK_STRIDE`; None: no rough masks.
        has_mask: bool (prompt,): which of the masks counts.
    """

    points: Tensor
    labels: Tensor
    masks: Tensor | None = None
    has_mask: Tensor | None = None

    def to(self, device: torch.device | str) -> PlacedHints:
        """The same on another device."""
        return PlacedHints(
            self.points.to(device),
            self.labels.to(device),
            None if self.masks is None else self.masks.to(device),
            None if self.has_mask is None else self.has_mask.to(device),
        )

    def part(self, first: int, last: int) -> PlacedHints:
        """Those of the prompts from `first` up to, not including, `last`."""
        return PlacedHints(
            self.points[first:last],
            self.labels[first:last],
            None if self.masks is None else self.masks[first:last],
            None if self.has_mask is None else self.has_mask[first:last],
        )

    def expand(self, count: int) -> PlacedHints:
        """The same hints for several prompts, of one that is for a single one."""
        return PlacedHints(
            self.points.expand(count, -1, -1),
            self.labels.expand(count, -1),
            None if self.masks is None else self.masks.expand(count, -1, -1),
            None if self.has_mask is None else self.has_mask.expand(count),
        )
