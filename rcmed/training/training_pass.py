"""A pass of training as a module of its own: what is replicated, or cut into shards, is called as a whole."""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from rcmed.model.grounding.hint_prompts import PlacedHints
from rcmed.model.modeling import PromptTokens, RCMedModel
from rcmed.training.batches.shares import Rows

# Mask logits and presence logits of every turn of the closed loop.
Turns = tuple[tuple[Tensor, Tensor | None], ...]


class Answered(NamedTuple):
    """What a pass answers.

    Attributes:
        turns: of the closed loop.
        words: mean cross-entropy of the words that are learned, where some are.
        region_logits: float (image, region), where the model tells regions.
    """

    turns: Turns
    words: Tensor | None = None
    region_logits: Tensor | None = None


class TrainingPass(nn.Module):
    """Images and prompts in, what every turn answers out."""

    def __init__(self, model: RCMedModel) -> None:
        super().__init__()
        self.model = model
        self.rows = Rows()

    def forward(
        self,
        pixel_values: Tensor,
        before: Tensor,
        after: Tensor,
        image_index: Tensor,
        prompts: PromptTokens,
        hints: PlacedHints | None,
    ) -> Answered:
        """As `RCMedModel.forward`; tells `rows` what is passed."""
        self.rows.are_images = True
        encoded = self.model.encode(pixel_values, before, after)
        self.rows.are_images = False
        output = self.model.ground(encoded, image_index, prompts, hints=hints)
        assert output.turns is not None
        words = None
        if prompts.taught is not None and output.states is not None:
            words = self._words(output.states, prompts.taught)
        return Answered(output.turns, words, encoded.region_logits)

    def _words(self, states: Tensor, taught: Tensor) -> Tensor:
        """Each learned token is predicted by the state before it; 0 where a share has none."""
        is_taught = taught[:, 1:] >= 0
        logits = self.model.language.next_token_logits(states[:, :-1][is_taught])
        losses = F.cross_entropy(logits.float(), taught[:, 1:][is_taught], reduction="sum")
        return losses / is_taught.sum().clamp(min=1)
