"""A small network on evidence that it standardises by what training measured of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class StandardisedHead(nn.Module):
    """Evidence float (sample, evidence) to logits float (sample, output) by some layers.

    Attributes:
        farthest: standardised evidence is cut to this far from its centre.
        smallest_spread: evidence that hardly varies is not blown up by more than its inverse.
    """

    farthest: float
    smallest_spread: float
    centre: Tensor
    scale: Tensor

    def __init__(self, evidence: int, layers: nn.Sequential) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(evidence))
        self.register_buffer("scale", torch.ones(evidence))
        self.layers = layers

    def reset(self) -> None:
        """Back to an untrained state."""
        self.centre.zero_()
        self.scale.fill_(1.0)
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                layer.reset_parameters()

    def standardise_by(self, evidence: Tensor) -> None:
        """Measure centre and scale on float (sample, evidence)."""
        spread, mean = torch.std_mean(evidence, dim=0)
        self.centre.copy_(mean)
        self.scale.copy_(1 / spread.clamp(min=self.smallest_spread))

    def forward(self, evidence: Tensor) -> Tensor:
        """Logits float (sample, output) of float (sample, evidence)."""
        standardised = ((evidence - self.centre) * self.scale).clamp(-self.farthest, self.farthest)
        logits: Tensor = self.layers(standardised)
        return logits
