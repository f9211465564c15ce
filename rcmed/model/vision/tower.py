"""The small interface that every vision tower has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class VisionFeatures:
    """What a tower gives for a batch of images.

    Attributes:
        tokens: float (image, token, channel), row by row, for the language model.
        dense: float (image, channel, row, column) at the dense stride, before language is added.
        fine: float (image, channel, row, column) maps at strides 8, 4 and 2; empty for a tower without them.
    """

    tokens: Tensor
    dense: Tensor
    fine: tuple[Tensor, ...]


class VisionTower(Protocol):
    """Maps normalised pixels (image, 3, size, size) to VisionFeatures."""

    token_size: int
    dense_size: int

    def __call__(self, pixel_values: Tensor, place: Tensor | None = None) -> VisionFeatures:
        """Compute the features of a batch; `place` as in `rcmed.model.exemplar.Exemplar`."""
        ...
