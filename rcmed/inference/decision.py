"""The one decision of presence: whether a target is there, of a slice, of a volume, in use and in training."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rcmed.findings import FindingStatus
from rcmed.image import Image
from rcmed.inference.volume import (
    as_of_a_slice,
    drop_islands,
    presence_of_best,
    presence_of_volume,
    presence_window,
    runs_through,
    smooth,
)
from rcmed.inference.volume_rule import VolumeRule
from rcmed.model.config import RCMedConfig
from rcmed.packed_mask import PackedMask


@dataclass(frozen=True)
class PresenceRule:
    """Where presence becomes a word; it travels with the weights (`RCMedConfig`).

    Attributes:
        absent_below: presence below it is "absent", unless the mask is sure.
        found_from: presence from here on is "found"; between the two it is "uncertain".
        sure_mask_logit: a mask as sure as this is not "absent", whatever presence says; None: presence alone decides.
        volumes: how slices of a volume are heard together.
    """

    absent_below: float
    found_from: float
    sure_mask_logit: float | None = None
    volumes: VolumeRule = VolumeRule()

    @classmethod
    def of(cls, config: RCMedConfig) -> PresenceRule:
        """The rule of some weights."""
        absent_below, found_from = config.presence_thresholds
        return cls(absent_below, found_from, config.sure_mask_logit, VolumeRule.of(config))

    def presence_of_volume(self, smoothed: NDArray[np.float32], window: int) -> float:
        """Presence of a volume, in the measure of slices: the thresholds hold for both.

        Args:
            smoothed: float32 (slice,), each the mean of a window of neighbouring slices.
            window: their number.
        """
        if self.volumes.thresholds is None:
            return presence_of_best(float(smoothed.max()), len(smoothed) / window)
        said = presence_of_volume(smoothed, window, self.volumes.accumulation)
        return as_of_a_slice(said, self.volumes.thresholds, (self.absent_below, self.found_from))


@dataclass(frozen=True, eq=False)
class Decision:
    """What is said of one target.

    Attributes:
        status: found, uncertain or absent.
        presence: 0 to 1; None where the weights know no presence.
        mask: bool (slice, row, column), what is shown of it: nothing where it is absent.
    """

    status: FindingStatus
    presence: float | None
    mask: NDArray[np.bool_]


def judged_together(image: Image) -> int | None:
    """Number of neighbouring slices that are judged together; None where each slice is an image of its own."""
    if not image.is_volume:
        return None
    return presence_window(image.grid.spacing[0] if image.grid.in_millimetres else None)


@dataclass(frozen=True, eq=False)
class _Verdict:
    """What presence says of a target.

    Attributes:
        presence: of the whole; None where the weights know none.
        is_absent: nothing says that the target is there.
        is_kept: bool (slice,), whether a slice may show it.
    """

    presence: float | None
    is_absent: bool
    is_kept: NDArray[np.bool_]

    def decided(self, shown: NDArray[np.bool_], rule: PresenceRule) -> Decision:
        """The decision where `shown`, bool (slice, row, column), is what there is to show."""
        if self.presence is None:
            return Decision(FindingStatus.FOUND if shown.any() else FindingStatus.ABSENT, None, shown)
        # Likely there, but nowhere to point at: neither a finding nor a clean "absent".
        is_found = self.presence >= rule.found_from and bool(shown.any())
        return Decision(FindingStatus.FOUND if is_found else FindingStatus.UNCERTAIN, self.presence, shown)


def _judge_presence(
    presence: NDArray[np.float32],
    sureness: NDArray[np.float32],
    rule: PresenceRule,
    together: int | None,
    asserted: Collection[int],
) -> _Verdict:
    if np.isnan(presence).any():
        return _Verdict(None, False, np.ones(len(presence), dtype=bool))
    window = min(together or 1, len(presence))
    smoothed = smooth(presence, window)
    smoothed[list(asserted)] = 1.0
    is_kept = smoothed >= rule.absent_below
    is_sure = np.zeros_like(is_kept)
    if rule.sure_mask_logit is not None:
        is_sure = smooth(sureness, window) >= rule.sure_mask_logit
    if together is None:
        probability, is_borne_out = float(smoothed.max()), False
    else:
        probability, is_borne_out = rule.presence_of_volume(smoothed, window), runs_through(presence, window)
    is_absent = probability < rule.absent_below and not is_borne_out and not bool(is_sure.any())
    return _Verdict(probability, is_absent, is_kept | is_sure)


def decide(
    masks: NDArray[np.bool_],
    presence: NDArray[np.float32],
    sureness: NDArray[np.float32],
    rule: PresenceRule,
    together: int | None = None,
    asserted: Collection[int] = (),
) -> Decision:
    """Decide whether a target is there, and what is shown of it.

    Presence and sureness are means of neighbouring slices where slices are judged together. A slice keeps its mask
    where its presence is not below `absent_below` or its mask is sure. The target is absent where no slice says more,
    uncertain where presence and mask disagree or presence lies between the thresholds, else found. Weights without
    presence find whatever they mark.

    Args:
        masks: bool (slice, row, column), each slice on its own.
        presence: float32 (slice,), 0 to 1; NaN where the weights have none.
        sureness: float32 (slice,), mean of the highest mask logits (`rcmed.model.heads.presence.mask_sureness`).
        rule: thresholds.
        together: see `judged_together`.
        asserted: slices of which a user says that they show the target; they keep their masks.
    """

    def mask(is_kept: NDArray[np.bool_]) -> NDArray[np.bool_]:
        kept = masks & is_kept[:, None, None]
        return kept if together is None else drop_islands(kept)

    return decide_volume(mask, masks, presence, sureness, rule, together, asserted)


def decide_volume(
    mask: Callable[[NDArray[np.bool_]], NDArray[np.bool_]],
    own: PackedMask | NDArray[np.bool_],
    presence: NDArray[np.float32],
    sureness: NDArray[np.float32],
    rule: PresenceRule,
    together: int | None,
    asserted: Collection[int] = (),
) -> Decision:
    """As `decide`, of a volume whose slices make one mask; it is made where the target is not absent alone.

    Args:
        mask: makes it, bool (slice, row, column), of the slices that may show the target, bool (slice,).
        own: masks of the asserted slices on their own.
        presence, sureness, rule, together, asserted: as `decide`.
    """
    verdict = _judge_presence(presence, sureness, rule, together, asserted)
    if verdict.is_absent:
        return Decision(FindingStatus.ABSENT, verdict.presence, np.zeros(own.shape, dtype=bool))
    shown = mask(verdict.is_kept)
    for index in asserted:
        shown[index] = own[index]
    return verdict.decided(shown, rule)
