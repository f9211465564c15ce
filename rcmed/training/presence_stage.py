"""The second stage: only presence is trained, on the finished masks, with as many absent targets as present ones."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from rcmed.errors import ConfigurationError
from rcmed.model.grounding import GroundingDecoder
from rcmed.model.modeling import RCMedModel

PRESENCE_WARMUP_STEPS = 20


def presence_parts(model: RCMedModel) -> list[nn.Module]:
    """The parts that the second stage trains.

    Raises:
        ConfigurationError: the model has no presence.
    """
    if not isinstance(model.grounding, GroundingDecoder):
        raise ConfigurationError("presence_steps: the model has no presence to train; use 0")
    return [model.grounding.presence_head, model.grounding.region_presence]


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
