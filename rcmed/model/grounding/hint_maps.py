"""Clicks, boxes and rough masks as maps that are added to the features of an image, for the small decoder.

Segment Anything turns them into tokens beside the prompt's, and learns from a billion masks where a token points at.
Maps say it by themselves: with them a few thousand steps suffice (disks of clicks: Sofiiuk et al., Reviving Iterative
Training with Mask Guidance, 2022).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rcmed.model.grounding.hint_prompts import MASK_STRIDE, PlacedHints, PointLabel

# In pixels of the model grid: how far a click is seen, in its own cells and the ones beside.
_CLICK_RADIUS = 5.0
_CHANNELS = 4


def draw_hints(hints: PlacedHints, size: int) -> Tensor:
    """Float32 (prompt, 4, size / 4, size / 4): clicks inside, clicks outside, box, rough mask.

    Clicks fade from 1 to 0; box and mask are 1 within, -1 without, and 0 where there is none.
    """
    side = size // MASK_STRIDE
    centres = (torch.arange(side, device=hints.points.device) + 0.5) * MASK_STRIDE - 0.5
    column, row = hints.points[..., 0].float(), hints.points[..., 1].float()
    # (prompt, point, cell) along each axis.
    across, down = (centres - place[..., None] for place in (column, row))
    near = torch.exp(-(down[..., :, None] ** 2 + across[..., None, :] ** 2) / (2 * _CLICK_RADIUS**2))
    # One more that says nothing, as there may be no points at all.
    clicks = [
        F.pad(near * (hints.labels == label)[..., None, None], (0, 0, 0, 0, 0, 1)).amax(1)
        for label in (PointLabel.INSIDE, PointLabel.OUTSIDE)
    ]
    first, last = (
        torch.where((hints.labels == label)[..., None], hints.points, 0.0).sum(1)
        for label in (PointLabel.FIRST_CORNER, PointLabel.LAST_CORNER)
    )
    has_box = (hints.labels == PointLabel.FIRST_CORNER).any(1)[:, None, None]
    # The share of each cell that the box covers, from outer edge to outer edge of its pixels.
    covered = [
        (
            torch.minimum(centres + MASK_STRIDE / 2, last[:, axis, None] + 0.5)
            - torch.maximum(centres - MASK_STRIDE / 2, first[:, axis, None] - 0.5)
        ).clamp(0, MASK_STRIDE)
        / MASK_STRIDE
        for axis in (1, 0)
    ]
    box = torch.where(has_box, 2 * covered[0][:, :, None] * covered[1][:, None, :] - 1, 0.0)
    rough = torch.zeros_like(box)
    if hints.masks is not None and hints.has_mask is not None:
        rough = torch.where(hints.has_mask[:, None, None], hints.masks.float().tanh(), 0.0)
    return torch.stack([*clicks, box, rough], dim=1)


class HintConvolution(nn.Conv2d):
    """A convolution of hints: by its type it is known, and started anew, where weights lack it."""


class HintAddition(HintConvolution):
    """The last one: it starts at zero, so that weights that knew no hints answer as before."""

    def __init__(self, channels: int, added: int) -> None:
        super().__init__(channels, added, 1)

    def reset_parameters(self) -> None:
        """Back to adding nothing."""
        assert self.bias is not None
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)


class HintMaps(nn.Module):
    """What hints add to the features that the decoder attends to (stride 16) and to those it draws with (stride 4)."""

    def __init__(self, dense: int, fine: int) -> None:
        """`dense`, `fine`: channels at strides 16 and 4."""
        super().__init__()
        self.near = HintConvolution(_CHANNELS, 24, 5, 1, 2)
        self.mix = HintConvolution(24, 24, 3, 1, 1)
        self.to_fine = HintAddition(24, fine)
        self.to_stride_8 = HintConvolution(24, 48, 3, 2, 1)
        self.to_stride_16 = HintConvolution(48, 96, 3, 2, 1)
        self.to_dense = HintAddition(96, dense)

    def forward(self, drawn: Tensor) -> tuple[Tensor, Tensor]:
        """Additions float (prompt, dense, r, c) and (prompt, fine, 4 r, 4 c) of hints drawn by `draw_hints`.

        A prompt without any hint gets none.
        """
        given = drawn.any(1).any(-1).any(-1)[:, None, None, None]
        seen = F.relu(self.mix(F.relu(self.near(drawn))))
        coarse = F.relu(self.to_stride_16(F.relu(self.to_stride_8(seen))))
        return self.to_dense(coarse) * given, self.to_fine(seen) * given
