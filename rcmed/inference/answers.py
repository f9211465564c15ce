"""What a model says of slices and of the volume that they make, and how it is kept."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rcmed.inference.packed_logits import PackedLogits
from rcmed.model.processor import to_masks
from rcmed.packed_mask import PackedMask


@dataclass(frozen=True)
class SliceAnswers:
    """What the model says of some slices.

    Attributes:
        first: index of the first of these slices.
        masks: bool (target, slice, row, column) on the image's grid.
        presence: float32 (target, slice): probability that the target is in the slice; NaN where the model has none.
        sureness: float32 (target, slice): mean of the mask's `SURE_PIXELS` highest logits.
        first_target: index of the first of these targets among those asked for.
        regions: float32 (slice, region): how likely each of the config's `body_regions` is shown; None: not told.
    """

    first: int
    masks: NDArray[np.bool_]
    presence: NDArray[np.float32]
    sureness: NDArray[np.float32]
    first_target: int = 0
    regions: NDArray[np.float32] | None = None

    @property
    def place(self) -> tuple[slice, slice]:
        """Where they lie among all targets and slices."""
        return _place(self)


@dataclass(frozen=True)
class SliceLogits:
    """What the model says of some slices, its masks as logits on its own grid.

    Attributes:
        logits: float (target, slice, r, c) on the padded model grid.
        rows, columns: of the slices.
        image_size: of the model grid.
        first, presence, sureness, first_target, regions: as `SliceAnswers`.
    """

    first: int
    logits: Tensor
    rows: int
    columns: int
    image_size: int
    presence: NDArray[np.float32]
    sureness: NDArray[np.float32]
    first_target: int = 0
    regions: NDArray[np.float32] | None = None

    @cached_property
    def masks(self) -> NDArray[np.bool_]:
        """Each slice on its own, bool (target, slice, row, column) on the image's grid; made when asked for."""
        return to_masks(self.logits, self.rows, self.columns, self.image_size)

    @property
    def place(self) -> tuple[slice, slice]:
        """Where they lie among all targets and slices."""
        return _place(self)


def _place(answers: SliceAnswers | SliceLogits) -> tuple[slice, slice]:
    targets, slices = answers.presence.shape
    return slice(answers.first_target, answers.first_target + targets), slice(answers.first, answers.first + slices)


@dataclass(frozen=True)
class VolumeAnswers:
    """What the model says of all slices, the masks in bits or bytes: those of many targets would fill the memory.

    Attributes:
        masks: one per target, each slice on its own.
        presence, sureness: as `SliceAnswers`.
        logits: one per target, of a volume whose masks are made from all its slices; empty: none are kept. Slices of
            which no logits came are in `masks`.
        pointed_at: slices whose masks are kept beside their logits: a user says that they show the target.
    """

    masks: tuple[PackedMask, ...]
    presence: NDArray[np.float32]
    sureness: NDArray[np.float32]
    logits: tuple[PackedLogits, ...] = ()
    pointed_at: frozenset[int] = frozenset()

    @classmethod
    def empty(
        cls,
        targets: int,
        slices: int,
        rows: int,
        columns: int,
        keeps_logits: bool = False,
        pointed_at: Collection[int] = (),
    ) -> VolumeAnswers:
        """Of so many targets in an image of this size.

        Args:
            keeps_logits: keep logits instead of masks, where there are any.
            pointed_at: slices whose masks are kept all the same.
        """
        presence, sureness = (np.zeros((targets, slices), dtype=np.float32) for _ in range(2))
        masks = tuple(PackedMask((slices, rows, columns)) for _ in range(targets))
        logits = tuple(PackedLogits(slices) for _ in range(targets)) if keeps_logits else ()
        return cls(masks, presence, sureness, logits, frozenset(pointed_at))

    @property
    def has_logits(self) -> bool:
        """Whether the slices were told in logits, from which a volume's masks are made."""
        return any(logits.was_put for logits in self.logits)

    def put(self, answers: SliceAnswers | SliceLogits) -> None:
        """Take what is said of some slices."""
        targets, slices = answers.place
        self.presence[answers.place], self.sureness[answers.place] = answers.presence, answers.sureness
        if self.logits and isinstance(answers, SliceLogits):
            for kept, found in zip(self.logits[targets], answers.logits, strict=True):
                kept.put(answers.first, found)
            if self.pointed_at.isdisjoint(range(slices.start, slices.stop)):
                return
        for mask, shown in zip(self.masks[targets], answers.masks, strict=True):
            mask.put(answers.first, shown)
