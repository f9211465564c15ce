"""Whether the target is in the image, judged by what lies under the mask that was found for it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SCALARS = 4


class RegionPresence(nn.Module):
    """Adds to the presence logit what the found region looks like.

    A name alone tells how often a target is there; the features under its mask, beside those of the image, and how
    sure the mask is, tell whether it is there now. Starts at zero: an untrained one changes nothing.
    """

    def __init__(self, prompt_size: int, channels: Sequence[int]) -> None:
        super().__init__()
        last = nn.Linear(prompt_size, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        inputs = prompt_size + 2 * sum(channels) + _SCALARS
        self.head = nn.Sequential(nn.Linear(inputs, prompt_size), nn.ReLU(), last)

    def forward(self, prompts: Tensor, mask_logits: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """What to add to each presence logit.

        Args:
            prompts: float (prompt, prompt_size).
            mask_logits: float (prompt, row, column); no gradient flows back into the mask.
            maps: float (prompt, channel, r, c) each; r and c divide the mask's rows and columns.
        Returns:
            float (prompt,).
        """
        logits = mask_logits.detach().float()
        inside = logits.sigmoid()
        total = inside.sum((1, 2)).clamp(min=1e-3)
        sureness = inside.square().sum((1, 2)) / total
        scalars = [logits.amax((1, 2)) / 10, sureness, inside.mean((1, 2)), total.log() / 10]
        parts = [prompts.float(), torch.stack(scalars, dim=1)]
        for each in maps:
            weights = F.avg_pool2d(inside[:, None], inside.shape[-1] // each.shape[-1])[:, 0]
            pooled = torch.einsum("phw,pchw->pc", weights, each.float())
            parts += [pooled / weights.sum((1, 2)).clamp(min=1e-3)[:, None], each.float().mean((2, 3))]
        added: Tensor = self.head(torch.cat(parts, dim=1))[:, 0]
        return added
