"""The second stage: only presence is trained, on the finished masks, with as many absent targets as present ones."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from rcmed.model.modeling import RCMedModel


@dataclass(frozen=True)
class PresenceRates:
    """What makes targets absent in the second stage: reflections and absent names, more often than in the first."""

    reflection: float = 0.5
    absent: float = 0.5


def presence_parts(model: RCMedModel) -> list[nn.Module]:
    """The parts that the second stage trains."""
    return [model.grounding.presence_head, model.grounding.region_presence]


def cosine(step: int, steps: int) -> float:
    """Half a cosine from 1 to 0, with a short warm-up."""
    return min(1.0, (step + 1) / 20) * 0.5 * (1 + math.cos(math.pi * step / steps))


def presence_loss(logits: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """Cross-entropy in which present and absent targets of a step weigh the same.

    Args:
        logits: float (prompt,).
        present: bool (prompt,).
    """
    terms = F.binary_cross_entropy_with_logits(logits, present.float(), reduction="none")
    kinds = [terms[kind].mean() for kind in (present, ~present) if kind.any()]
    return torch.stack(kinds).mean()


def generator_of(seed: int, step: int) -> np.random.Generator:
    """The draws of a step, apart from those of the first stage."""
    return np.random.default_rng((seed, 1, step))
