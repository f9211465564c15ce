"""A stage of its own for weights at rest: they learn to tell which parts of the body an image shows."""

from __future__ import annotations

from torch import Tensor

from rcmed.model.heads.regions import RegionHead
from rcmed.training.losses import region_loss
from rcmed.training.stages.head_fitting import HeadFit

_FIT = HeadFit(epochs=60, samples_per_step=256, learning_rate=2e-3, weight_decay=0.1, stream=3)


def fit_regions(head: RegionHead, evidence: Tensor, known: Tensor, seed: int) -> float:
    """Train the head from nothing; returns the mean loss of the last epoch.

    Args:
        head: of the model.
        evidence: float32 (image, evidence), see `rcmed.model.heads.regions.region_evidence`.
        known: float32 (image, region): 1 shown, 0 not shown, NaN not known.
        seed: of order and first values.
    """
    return _FIT.run(head, evidence, lambda logits, which: region_loss(logits, known[which]), seed)
