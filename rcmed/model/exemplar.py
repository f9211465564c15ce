"""What a few annotated images teach of a target: a prototype, a place, and a prompt (the paper's second version).

The prototype and the place are the published way: features that look like the examples' target, and lie where it lay,
count for more. The prompt is ours: the `[SEG]` prompt that a new name gives means nothing to the mask decoder yet, so a
correction of it is fitted to the examples (`rcmed.site_learning.few_shot`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

SIMILARITY_STRENGTH = 0.3
PLACE_STRENGTH = 0.5
PLACE_LOGIT_SHARE = 0.5


@dataclass(frozen=True, eq=False)
class Exemplar:
    """A target as its examples show it.

    Attributes:
        prototype: float (channel,): mean of the dense features under the examples' masks, of unit length; None: none.
        place: float (row, column) on the dense grid: share of the examples whose mask covers a cell; None: none.
        correction: float (prompt_size,): added to the prompt that the name gives; None: none.
    """

    prototype: Tensor | None = None
    place: Tensor | None = None
    correction: Tensor | None = None

    @classmethod
    def of(cls, dense: Tensor, masks: Tensor) -> Exemplar:
        """Prototype and place of examples.

        Args:
            dense: float (image, channel, row, column), without language, and without an exemplar's help.
            masks: float (image, size, size) in [0, 1] on the model grid; none may be empty.
        """
        covered = F.adaptive_avg_pool2d(masks[:, None].to(dense.dtype), (dense.shape[2], dense.shape[3]))
        pooled = (dense * covered).sum((0, 2, 3)) / covered.sum().clamp(min=1e-6)
        return cls(F.normalize(pooled, dim=0), covered.mean((0, 1)))

    def mirrored(self) -> Exemplar:
        """Of the other one of a paired organ: alike, but it lies on the image's other side."""
        return self if self.place is None else replace(self, place=self.place.flip(-1))

    def similarity(self, dense: Tensor) -> Tensor:
        """How alike each cell is to the prototype, in (0, 1): float (image, 1, row, column)."""
        assert self.prototype is not None
        alike = torch.einsum("ichw,c->ihw", F.normalize(dense.float(), dim=1), self.prototype.float())
        spread, mean = torch.std_mean(alike, dim=(1, 2), keepdim=True)
        return ((alike - mean) / spread.clamp(min=1e-6)).sigmoid()[:, None].to(dense.dtype)

    def emphasise(self, dense: Tensor) -> Tensor:
        """The dense features, those that look like the prototype made stronger."""
        if self.prototype is None:
            return dense
        return dense * (1 + SIMILARITY_STRENGTH * self.similarity(dense))

    def add_place(self, mask_logits: Tensor) -> Tensor:
        """Mask logits float (prompt, r, c), raised where the examples' target lay."""
        if self.place is None:
            return mask_logits
        place = F.interpolate(
            self.place[None, None].to(mask_logits), size=mask_logits.shape[-2:], mode="bilinear", align_corners=False
        )[0]
        return mask_logits + PLACE_LOGIT_SHARE * mask_logits.abs().mean((1, 2), keepdim=True) * place


def emphasise_place(maps: Tensor, place: Tensor | None) -> Tensor:
    """Features before a tower's neck, float (image, channel, row, column), stronger where an example's target lay."""
    if place is None:
        return maps
    resized = F.interpolate(place[None, None].to(maps), size=maps.shape[-2:], mode="bilinear", align_corners=False)
    return maps * (1 + PLACE_STRENGTH * resized)
