"""A pass of training as a module of its own: what is replicated, or cut into shards, is called as a whole."""

from __future__ import annotations

from torch import Tensor, nn

from rcmed.model.hint_prompts import PlacedHints
from rcmed.model.modeling import PromptTokens, RCMedModel
from rcmed.training.shares import Rows

# Mask logits and presence logits of every turn of the closed loop.
Turns = tuple[tuple[Tensor, Tensor | None], ...]


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
    ) -> Turns:
        """As `RCMedModel.forward`; tells `rows` what is passed."""
        self.rows.are_images = True
        encoded = self.model.encode(pixel_values, before, after)
        self.rows.are_images = False
        turns: Turns | None = self.model.ground(encoded, image_index, prompts, hints=hints).turns
        assert turns is not None
        return turns
