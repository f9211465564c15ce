"""How unsure an assistant is of an image: what a person's time is best spent on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import cast

import numpy as np

from rcmed.assistant import MOST_ANSWERED_SLICES, Assistant
from rcmed.image import Grid, Image
from rcmed.inference.decision import PresenceRule, decide
from rcmed.model.config import RCMedConfig
from rcmed.site_learning.judging import agreement
from rcmed.vocabulary import Target

MOST_WORDINGS = 3


@dataclass(frozen=True)
class Uncertainty:
    """Of an image, as means over the targets asked for; the larger, the less the assistant knows.

    Attributes:
        presence_entropy: of the presence probability, in bits, in [0, 1]; 1: as likely there as not.
        disagreement: 1 - mean Dice between the masks of several wordings of the same target, in [0, 1].
    """

    presence_entropy: float
    disagreement: float


def wordings(target: Target) -> list[str]:
    """The target's name and synonyms, a few; with an article where there are no synonyms."""
    return [target.name, *(target.synonyms or (f"the {target.name}",))][:MOST_WORDINGS]


def uncertainty(assistant: Assistant, image: Image, targets: Sequence[Target]) -> Uncertainty:
    """Ask for every target in several wordings; of a volume some slices, evenly spaced.

    Weights without presence have no presence entropy: it is 0 then.
    """
    if not targets:
        return Uncertainty(0.0, 0.0)
    shown = _some_slices(image)
    entropies, disagreements = [], []
    rule = PresenceRule.of(cast(RCMedConfig, assistant.model.config))
    for target in targets:
        said = assistant.answer_words(shown, wordings(target))
        # Slices far apart are images of their own.
        decided = [
            decide(masks, presence, sureness, rule)
            for masks, presence, sureness in zip(said.masks, said.presence, said.sureness, strict=True)
        ]
        presence = decided[0].presence
        if presence is not None:
            p = float(np.clip(presence, 1e-6, 1 - 1e-6))
            entropies.append(-p * np.log2(p) - (1 - p) * np.log2(1 - p))
        pairs = [agreement(one.mask, other.mask) for one, other in combinations(decided, 2)]
        disagreements.append(1 - float(np.mean(pairs)))
    return Uncertainty(float(np.mean(entropies)) if entropies else 0.0, float(np.mean(disagreements)))


def _some_slices(image: Image) -> Image:
    count = image.grid.shape[0]
    if count <= MOST_ANSWERED_SLICES:
        return image
    places = np.unique(np.linspace(0, count - 1, MOST_ANSWERED_SLICES).round().astype(int))
    affine = image.grid.affine.copy()
    affine[:3, 0] *= (count - 1) / (len(places) - 1)
    grid = Grid(
        (len(places), *image.grid.shape[1:]), affine, image.grid.in_millimetres, image.grid.in_patient_coordinates
    )
    return replace(image, pixels=image.pixels[places], grid=grid, sources=())
