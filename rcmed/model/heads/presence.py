"""Whether the target is in the image, judged by all that is known of it once its mask was found."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rcmed.model.heads.standardised import StandardisedHead

SURE_PIXELS = 100
_SCALARS = 5
_DROPOUT = 0.2
# Of each channel the highest share of cells: what is there without being under the mask.
_HIGHEST_SHARE = 1 / 64
# Standardised evidence beyond this is as good as this: a stray value may not outweigh everything else.
_FARTHEST = 8.0
# What varies less than this is rounding: it must not be blown up.
_SMALLEST_SPREAD = 0.02


def mask_sureness(logits: Tensor) -> Tensor:
    """Mean of the highest mask logits, float (...), of float (..., r, c)."""
    flat = logits.flatten(-2)
    return flat.topk(min(SURE_PIXELS, flat.shape[-1]), dim=-1).values.mean(-1)


def evidence_size(prompt_size: int, channels: Sequence[int]) -> int:
    """Length of `presence_evidence` with three states of `prompt_size` and maps of these channels."""
    return 3 * prompt_size + _SCALARS + 3 * sum(channels)


def summarise(maps: Tensor) -> Tensor:
    """What features are like anywhere in an image, float32 (map, 2 channel): their mean, and the mean of the highest.

    Args:
        maps: float (map, channel, row, column).
    """
    cells = maps.float().flatten(2)
    highest = cells.topk(max(1, round(cells.shape[-1] * _HIGHEST_SHARE)), dim=-1).values.mean(-1)
    return torch.cat([cells.mean(-1), highest], dim=1)


def presence_evidence(
    states: Sequence[Tensor],
    mask_logits: Tensor,
    maps: Sequence[Tensor],
    summaries: Sequence[Tensor | None] | None = None,
) -> Tensor:
    """What tells whether a target is there, float32 (prompt, evidence).

    A name alone tells how often a target is there. How sure its mask is, the features under the mask beside those of
    the image, and the highest of them anywhere, tell whether it is there now.

    Args:
        states: three of float (prompt, prompt_size): the decoder's presence and mask tokens, and the prompt.
        mask_logits: float (prompt, row, column); no gradient flows back into the mask.
        maps: float (prompt, channel, r, c) each; r and c divide the mask's rows and columns.
        summaries: `summarise` of each of the maps, float32 (prompt, 2 channel), where it is known.
    """
    logits = mask_logits.detach().float()
    inside = logits.sigmoid()
    total = inside.sum((1, 2)).clamp(min=1e-3)
    scalars = [
        logits.amax((1, 2)) / 10,
        mask_sureness(logits) / 10,
        inside.square().sum((1, 2)) / total,
        inside.mean((1, 2)),
        total.log() / 10,
    ]
    parts = [state.float() for state in states] + [torch.stack(scalars, dim=1)]
    for each, summary in zip(maps, summaries or [None] * len(maps), strict=True):
        weights = F.avg_pool2d(inside[:, None], inside.shape[-1] // each.shape[-1])[:, 0]
        if torch.is_grad_enabled():
            pooled = torch.einsum("phw,pchw->pc", weights, each.float())
        else:
            pooled = torch.bmm(weights.flatten(1)[:, None], each.float().flatten(2).transpose(1, 2))[:, 0]
        parts += [
            pooled / weights.sum((1, 2)).clamp(min=1e-3)[:, None],
            summarise(each) if summary is None else summary,
        ]
    return torch.cat(parts, dim=1)


class PresenceHead(StandardisedHead):
    """Evidence to a presence logit. It standardises the evidence by what the second stage of training measured."""

    farthest = _FARTHEST
    smallest_spread = _SMALLEST_SPREAD

    def __init__(self, evidence: int, hidden: int) -> None:
        layers = (nn.Linear(evidence, hidden), nn.ReLU(), nn.Dropout(_DROPOUT), nn.Linear(hidden, 1))
        super().__init__(evidence, nn.Sequential(*layers))

    def forward(self, evidence: Tensor) -> Tensor:
        """Presence logits float (prompt,) of float (prompt, evidence)."""
        return super().forward(evidence)[:, 0]
