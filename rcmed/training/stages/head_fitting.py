"""Training a small head over and over on evidence that was computed once, as the rest of the model stands still."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rcmed.model.heads.standardised import StandardisedHead
from rcmed.training.schedule import warm_cosine

WARMUP_STEPS = 20


@dataclass(frozen=True)
class HeadFit:
    """How a head is trained.

    Attributes:
        epochs, samples_per_step: how often, and how many samples at once.
        learning_rate, weight_decay: AdamW with a cosine schedule.
        stream: number of the draws beside the seed, so that two heads do not draw alike.
    """

    epochs: int
    samples_per_step: int
    learning_rate: float
    weight_decay: float
    stream: int

    def run(
        self, head: StandardisedHead, evidence: Tensor, loss_of: Callable[[Tensor, Tensor], Tensor], seed: int
    ) -> float:
        """Train the head from nothing; returns the mean loss of the last epoch.

        The dropout draws from torch's global generator, which is seeded here.

        Args:
            head: which standardises the evidence by all of it.
            evidence: float32 (sample, evidence).
            loss_of: the mean loss of logits float (part, ...) of the samples int64 (part,).
            seed: of order and first values.
        """
        torch.manual_seed(seed)
        head.reset()
        head.standardise_by(evidence)
        head.requires_grad_(True)
        head.train()
        optimiser = torch.optim.AdamW(head.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
        generator = np.random.default_rng((seed, self.stream))
        per_epoch = -(-len(evidence) // self.samples_per_step)
        losses: list[float] = []
        for step in range(self.epochs * per_epoch):
            if step % per_epoch == 0:
                order = torch.from_numpy(generator.permutation(len(evidence))).to(evidence.device)
                losses = []
            start = step % per_epoch * self.samples_per_step
            which = order[start : start + self.samples_per_step]
            for group in optimiser.param_groups:
                group["lr"] = self.learning_rate * warm_cosine(step, self.epochs * per_epoch, WARMUP_STEPS)
            loss = loss_of(head(evidence[which]), which)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            losses.append(loss.item())
        head.eval()
        return float(np.mean(losses))
