"""Which parts of the body an image shows, as the weights see it: for images of which no header tells."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rcmed.model.vision import VisionFeatures
from rcmed.vocabulary import BodyRegion

_HIDDEN = 256
_DROPOUT = 0.4
_SMALLEST_SPREAD = 1e-3
_FARTHEST = 6.0
# A part of the body at the end of a volume is shown by few of its slices; one slice alone may be misread.
_SHARE_OF_SLICES = 0.1


def region_evidence(features: VisionFeatures) -> Tensor:
    """Mean, maximum and spread of all maps of a tower, coarse and fine: float32 (image, 3 channels of all).

    Texture tells as much as what the coarsest map knows: with the tokens alone three times as many images keep a
    region that they don't show.
    """
    maps = [features.tokens.transpose(1, 2), *(each.flatten(2) for each in (features.dense, *features.fine))]
    return torch.cat([part for each in maps for part in (each.mean(2), each.amax(2), each.std(2))], dim=1).float()


class RegionHead(nn.Module):
    """Evidence to a logit for each body region; several may be shown. It standardises as `PresenceHead` does."""

    centre: Tensor
    scale: Tensor

    def __init__(self, channels: int, regions: int) -> None:
        """`channels`: of all maps of the tower together."""
        super().__init__()
        self.register_buffer("centre", torch.zeros(3 * channels))
        self.register_buffer("scale", torch.ones(3 * channels))
        self.layers = nn.Sequential(
            nn.Dropout(_DROPOUT),
            nn.Linear(3 * channels, _HIDDEN),
            nn.ReLU(),
            nn.Dropout(_DROPOUT),
            nn.Linear(_HIDDEN, regions),
        )

    def reset(self) -> None:
        """Back to an untrained state."""
        self.centre.zero_()
        self.scale.fill_(1.0)
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                layer.reset_parameters()

    def standardise_by(self, evidence: Tensor) -> None:
        """Measure centre and scale on float (image, evidence)."""
        spread, mean = torch.std_mean(evidence, dim=0)
        self.centre.copy_(mean)
        self.scale.copy_(1 / spread.clamp(min=_SMALLEST_SPREAD))

    def forward(self, evidence: Tensor) -> Tensor:
        """Region logits float (image, region) of float (image, evidence)."""
        logits: Tensor = self.layers(((evidence - self.centre) * self.scale).clamp(-_FARTHEST, _FARTHEST))
        return logits


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
