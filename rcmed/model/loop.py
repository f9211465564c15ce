"""The closed loop: what was found so far goes back into the language context (arXiv 2505.03380, Methods)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RegionLoop(nn.Module):
    """Turns the region under a mask into a token, and what the language model makes of it into a better prompt.

    Starts without effect: weights that were trained without the loop give the same masks at every turn.
    """

    def __init__(self, dense_size: int, hidden_size: int, prompt_size: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dense_size)
        self.projection = nn.Linear(dense_size, hidden_size)
        self.gate = nn.Parameter(torch.zeros(prompt_size))

    def reset(self) -> None:
        """Back to the start, for weights that were trained without a loop."""
        self.norm.reset_parameters()
        self.projection.reset_parameters()
        nn.init.zeros_(self.gate)

    def region_token(self, dense: Tensor, image_index: Tensor, mask_logits: Tensor) -> Tensor:
        """Features of the dense embedding under each mask as a token, float (prompt, hidden).

        Args:
            dense: float (image, channel, row, column).
            image_index: int64 (prompt,).
            mask_logits: float (prompt, r, c); r and c are multiples of the embedding's rows and columns.
        """
        rows, columns = dense.shape[-2:]
        weights = F.adaptive_avg_pool2d(mask_logits.sigmoid()[:, None], (rows, columns))[:, 0].to(dense.dtype)
        total = weights.sum((1, 2)).clamp(min=1e-3)
        pooled = torch.einsum("phw,pchw->pc", weights, dense.index_select(0, image_index)) / total[:, None]
        token: Tensor = self.projection(self.norm(pooled))
        return token

    def refine(self, queries: Tensor, better: Tensor) -> Tensor:
        """The prompt embeddings of the next turn, float (prompt, prompt_size)."""
        return queries + self.gate.to(queries.dtype) * better
