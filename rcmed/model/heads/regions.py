"""Which parts of the body an image shows, as the weights see it: for images of which no header tells."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rcmed.model.heads.standardised import StandardisedHead
from rcmed.model.vision import VisionFeatures
from rcmed.vocabulary import BodyRegion

_HIDDEN = 256
_DROPOUT = 0.4
# A part of the body at the end of a volume is shown by few of its slices; one slice alone may be misread.
_SHARE_OF_SLICES = 0.1


def region_evidence(features: VisionFeatures) -> Tensor:
    """Mean, maximum and spread of all maps of a tower, coarse and fine: float32 (image, 3 channels of all).

    Texture tells as much as what the coarsest map knows: with the tokens alone three times as many images keep a
    region that they don't show.
    """
    maps = [features.tokens.transpose(1, 2), *(each.flatten(2) for each in (features.dense, *features.fine))]
    return torch.cat([part for each in maps for part in (each.mean(2), each.amax(2), each.std(2))], dim=1).float()


class RegionHead(StandardisedHead):
    """Evidence (`region_evidence`) to a logit for each body region; several may be shown."""

    farthest = 6.0
    smallest_spread = 1e-3

    def __init__(self, channels: int, regions: int) -> None:
        """`channels`: of all maps of the tower together."""
        evidence = 3 * channels
        layers = (nn.Dropout(_DROPOUT), nn.Linear(evidence, _HIDDEN), nn.ReLU())
        super().__init__(evidence, nn.Sequential(*layers, nn.Dropout(_DROPOUT), nn.Linear(_HIDDEN, regions)))


def likely_regions(
    probabilities: NDArray[np.float32], names: Sequence[str], least: float, candidates: Collection[BodyRegion]
) -> frozenset[BodyRegion]:
    """The regions that an image may show: the likeliest one, and all that are not unlikely.

    Args:
        probabilities: float32 (slice, region), 0 to 1; of a volume the highest tenth of the slices counts, as a mean.
        names: of the regions.
        least: a region below it is unlikely.
        candidates: regions of which there are images of this kind at all; empty where none is known.
    """
    count = max(1, round(_SHARE_OF_SLICES * len(probabilities)))
    likely = np.sort(probabilities, axis=0)[-count:].mean(0)
    there = {BodyRegion(name): float(each) for name, each in zip(names, likely, strict=True) if name in candidates}
    highest = max(there.values(), default=0.0)
    return frozenset(region for region, each in there.items() if each >= min(least, highest))
