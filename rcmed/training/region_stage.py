"""A stage of its own for weights at rest: they learn to tell which parts of the body an image shows."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from rcmed.model.regions import RegionHead
from rcmed.training.losses import region_loss
from rcmed.training.presence_stage import WARMUP_STEPS
from rcmed.training.schedule import warm_cosine

EPOCHS = 60
_IMAGES_PER_STEP = 256
_WEIGHT_DECAY = 0.1
_LEARNING_RATE = 2e-3


def fit_regions(head: RegionHead, evidence: Tensor, known: Tensor, seed: int) -> float:
    """Train the head from nothing; returns the mean loss of the last epoch.

    The dropout draws from torch's global generator, which is seeded here.

    Args:
        head: of the model.
        evidence: float32 (image, evidence), see `rcmed.model.regions.region_evidence`.
        known: float32 (image, region): 1 shown, 0 not shown, NaN not known.
        seed: of order and first values.
    """
    torch.manual_seed(seed)
    head.reset()
    head.standardise_by(evidence)
    head.requires_grad_(True)
    head.train()
    optimiser = torch.optim.AdamW(head.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
    generator = np.random.default_rng((seed, 3))
    per_epoch = -(-len(known) // _IMAGES_PER_STEP)
    losses: list[float] = []
    for step in range(EPOCHS * per_epoch):
        if step % per_epoch == 0:
            order = torch.from_numpy(generator.permutation(len(known))).to(evidence.device)
            losses = []
        start = step % per_epoch * _IMAGES_PER_STEP
        which = order[start : start + _IMAGES_PER_STEP]
        for group in optimiser.param_groups:
            group["lr"] = _LEARNING_RATE * warm_cosine(step, EPOCHS * per_epoch, WARMUP_STEPS)
        loss = region_loss(head(evidence[which]), known[which])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(loss.item())
    head.eval()
    return float(np.mean(losses))
