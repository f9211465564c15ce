"""The second stage: only presence is trained, on the finished masks, with many absent targets.

The rest of the model stands still, so the evidence is computed once, from many batches, and the small head that judges
it is then trained over and over: trained beside the forward passes it saw far too little of each target.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rcmed.errors import ConfigurationError
from rcmed.model.grounding.decoder import GroundingDecoder
from rcmed.model.heads.presence import PresenceHead
from rcmed.model.modeling import RCMedModel
from rcmed.training.stages.head_fitting import HeadFit

EPOCHS = 40
_SAMPLES_PER_STEP = 512
_WEIGHT_DECAY = 0.1


@dataclass(frozen=True, eq=False)
class PresenceSamples:
    """What was asked in many batches.

    Attributes:
        evidence: float32 (sample, evidence), see `rcmed.model.heads.presence.presence_evidence`.
        names: of the target, per sample.
        present: bool (sample,).
    """

    evidence: Tensor
    names: Sequence[str]
    present: Tensor

    def weights(self) -> Tensor:
        """Of each sample, float32 (sample,), mean 1.

        A target counts by the square root of how often it was asked, and its presence as much as its absence: what is
        nearly always there must not become a rule.
        """
        kinds = list(zip(self.names, self.present.tolist(), strict=True))
        count = Counter(kinds)
        asked = {name: sum(count[name, is_present] for is_present in (True, False)) for name in self.names}
        shares = {name: sum((name, is_present) in count for is_present in (True, False)) for name in asked}
        weights = torch.tensor([asked[kind[0]] ** 0.5 / shares[kind[0]] / count[kind] for kind in kinds])
        return weights / weights.mean()


def presence_head(model: RCMedModel) -> PresenceHead:
    """The part that the second stage trains.

    Raises:
        ConfigurationError: the model has no presence.
    """
    if not isinstance(model.grounding, GroundingDecoder):
        raise ConfigurationError("presence_steps: the model has no presence to train; use 0")
    return model.grounding.presence


def fit_presence(head: PresenceHead, samples: PresenceSamples, learning_rate: float, seed: int) -> float:
    """Train the head anew on the samples; returns the mean loss of the last epoch."""
    weights = samples.weights().to(samples.evidence.device)
    wanted = samples.present.float().to(samples.evidence.device)

    def loss_of(logits: Tensor, which: Tensor) -> Tensor:
        terms = F.binary_cross_entropy_with_logits(logits, wanted[which], reduction="none")
        return (terms * weights[which]).mean()

    fit = HeadFit(EPOCHS, _SAMPLES_PER_STEP, learning_rate, _WEIGHT_DECAY, stream=2)
    return fit.run(head, samples.evidence, loss_of, seed)


def calibrate_presence(head: PresenceHead, samples: PresenceSamples) -> float:
    """Keep what the head learned beside the masks, and stretch and shift its logits; returns the mean loss.

    What is surer stays surer: only where the thresholds lie changes. After a long first stage this is better than to
    train the head anew (docs/training.md).
    """
    head.eval()
    wanted, weights = samples.present.float(), samples.weights()
    last = head.layers[-1]
    assert isinstance(last, torch.nn.Linear)
    with torch.no_grad():
        logits = torch.cat([head(part) for part in samples.evidence.split(_SAMPLES_PER_STEP)]).cpu()
    stretch, shift = torch.ones((), requires_grad=True), torch.zeros((), requires_grad=True)
    optimiser = torch.optim.LBFGS([stretch, shift], max_iter=200, line_search_fn="strong_wolfe")

    def loss_of() -> Tensor:
        terms = F.binary_cross_entropy_with_logits(stretch * logits + shift, wanted, reduction="none")
        return (terms * weights).mean()

    def step() -> float:
        optimiser.zero_grad()
        loss = loss_of()
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    optimiser.step(step)
    with torch.no_grad():
        last.weight.mul_(stretch.to(last.weight.device))
        last.bias.mul_(stretch.to(last.bias.device)).add_(shift.to(last.bias.device))
        return float(loss_of())


def generator_of(seed: int, step: int) -> np.random.Generator:
    """The draws of a step, apart from those of the first stage."""
    return np.random.default_rng((seed, 1, step))
