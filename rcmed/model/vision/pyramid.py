"""The way back up of a feature pyramid: coarse context is added to finer maps."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from rcmed.model.exemplar import emphasise_place
from rcmed.model.vision.tower import VisionFeatures


def group_norm(channels: int) -> nn.GroupNorm:
    """Normalise within each image, so that a batch of mixed modalities equals its items."""
    return nn.GroupNorm(8, channels)


class PyramidTower(nn.Module):
    """What towers with maps at strides 2, 4, 8, 16 and 32 share; a subclass computes these maps."""

    def __init__(self, widths: Sequence[int]) -> None:
        """`widths`: channels at strides 2, 4, 8, 16 and 32."""
        super().__init__()
        self.token_size = widths[-1]
        self.dense_size = widths[-2]

    def _add_way_up(self, widths: Sequence[int]) -> None:
        """Called where a subclass has its own layers: the order of their making is that of their first values."""
        self.lateral = nn.ModuleList([nn.Conv2d(widths[i + 1], widths[i], 1) for i in range(len(widths) - 1)])
        self.merge = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(width, width, 3, 1, 1), group_norm(width), nn.ReLU(inplace=True))
                for width in widths[:-1]
            ]
        )

    def _way_up(self, levels: list[Tensor], place: Tensor | None) -> VisionFeatures:
        """Maps float (image, channel, row, column) at strides 2 to 32 to features; `place` as in `VisionTower`."""
        levels[-2] = emphasise_place(levels[-2], place)
        merged = [levels[-1]]
        for level in range(len(levels) - 2, -1, -1):
            above = F.interpolate(self.lateral[level](merged[-1]), scale_factor=2, mode="bilinear", align_corners=False)
            merged.append(self.merge[level](levels[level] + above))
        tokens = merged[0].flatten(2).transpose(1, 2)
        return VisionFeatures(tokens=tokens, dense=merged[1], fine=tuple(merged[2:]))
