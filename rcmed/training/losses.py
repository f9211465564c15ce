"""Losses of a batch of prompts: mask and presence."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def soft_dice(logits: Tensor, masks: Tensor) -> Tensor:
    """1 - Dice per prompt, float (prompt,), of float (prompt, row, column)."""
    probability = logits.sigmoid()
    overlap = (probability * masks).sum((1, 2))
    return 1 - (2 * overlap + 1) / (probability.sum((1, 2)) + masks.sum((1, 2)) + 1)


def boundary(logits: Tensor, masks: Tensor) -> Tensor:
    """Cross-entropy between the morphological gradients (3x3 dilation minus erosion) of prediction and mask."""

    def gradient(maps: Tensor) -> Tensor:
        wide = maps[:, None]
        return (F.max_pool2d(wide, 3, 1, 1) + F.max_pool2d(-wide, 3, 1, 1))[:, 0]

    return F.binary_cross_entropy(gradient(logits.sigmoid()).clamp(1e-4, 1 - 1e-4), gradient(masks), reduction="none")


def halve(maps: Tensor) -> Tensor:
    """Mean over 2x2 cells: the boundary term does not need the full grid."""
    return F.avg_pool2d(maps[:, None], 2)[:, 0]


def prompt_losses(logits: Tensor, presence_logits: Tensor | None, masks: Tensor, present: Tensor) -> dict[str, Tensor]:
    """The terms of a batch.

    Args:
        logits: float (prompt, row, column).
        presence_logits: float (prompt,); None of a model without presence, which learns absence by empty masks alone.
        masks: float (prompt, row, column), 0 or 1.
        present: bool (prompt,): absent targets have no mask and give no Dice.
    Returns:
        scalars: cross_entropy, dice, boundary and, where the model has it, presence.
    """
    weight = present.float()
    count = weight.sum().clamp(min=1)
    pixel = F.binary_cross_entropy_with_logits(logits, masks, reduction="none")
    terms = {
        # A mean, not the hardest pixels only: that kept masks undecided and slowed learning several times (measured).
        "cross_entropy": pixel.mean(),
        "dice": (soft_dice(logits, masks) * weight).sum() / count,
        "boundary": (boundary(halve(logits), halve(masks)).mean((1, 2)) * weight).sum() / count,
    }
    if presence_logits is not None:
        terms["presence"] = F.binary_cross_entropy_with_logits(presence_logits, present.float())
    return terms


def region_loss(logits: Tensor, known: Tensor) -> Tensor:
    """Mean cross-entropy of what is known: logits float (image, region), known 1, 0 or NaN."""
    is_known = ~known.isnan()
    losses = F.binary_cross_entropy_with_logits(logits, known.nan_to_num(0.0), reduction="none")
    return (losses * is_known).sum() / is_known.sum().clamp(min=1)


# Means over the prompts whose target is there; the others are means over all prompts.
_OF_PRESENT = ("dice", "boundary")


def as_share(
    terms: dict[str, Tensor], of_prompts: float, of_present: Tensor, of_words: Tensor | None = None
) -> dict[str, Tensor]:
    """The terms of a process's own prompts, weighted: their mean over the processes is the term of all prompts.

    Args:
        terms: as of `prompt_losses`.
        of_prompts: the process's prompts over the mean number of prompts of a process.
        of_present: the same of those whose target is there.
        of_words: the same of the tokens that are learned; None: none are.
    """
    weights: dict[str, float | Tensor] = dict.fromkeys(_OF_PRESENT, of_present)
    if of_words is not None:
        weights["words"] = of_words
    return {name: term * weights.get(name, of_prompts) for name, term in terms.items()}


WEIGHTS = {"cross_entropy": 0.5, "dice": 2.0, "boundary": 0.2, "presence": 1.0, "words": 1.0, "regions": 0.5}


def total_loss(terms: dict[str, Tensor]) -> Tensor:
    """The weighted sum (weights of the masks' and the words' terms as published)."""
    return torch.stack([WEIGHTS[name] * term for name, term in terms.items()]).sum()
