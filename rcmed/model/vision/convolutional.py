"""A convolutional pyramid that learns from little data and runs on a CPU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rcmed.model.config import RCMedConfig
from rcmed.model.exemplar import emphasise_place
from rcmed.model.vision.tower import VisionFeatures


def group_norm(channels: int) -> nn.GroupNorm:
    """Normalise within each image, so that a batch of mixed modalities equals its items."""
    return nn.GroupNorm(8, channels)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut (He et al. 2016, basic block)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.first_norm = group_norm(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.second_norm = group_norm(outputs)
        plain = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if plain else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (image, inputs, row, column) to (image, outputs, row / stride, column / stride)."""
        # In place, as far as no gradient needs what was there before: these maps are large, and memory is slow.
        inner = F.relu(self.first_norm(self.first(maps)), inplace=True)
        return F.relu(self.second_norm(self.second(inner)).add_(self.shortcut(maps)), inplace=True)


class ConvolutionalTower(nn.Module):
    """Residual stages at strides 2 to 32, and a way back up that adds coarse context to finer maps."""

    def __init__(self, config: RCMedConfig) -> None:
        super().__init__()
        widths = config.vision_widths
        self.stem = nn.Conv2d(3, widths[0], 3, 2, 1)
        stages = []
        previous = widths[0]
        for level, (width, depth) in enumerate(zip(widths, config.vision_depths, strict=True)):
            blocks = [
                ResidualBlock(previous if i == 0 else width, width, 2 if level and not i else 1) for i in range(depth)
            ]
            stages.append(nn.Sequential(*blocks))
            previous = width
        self.stages = nn.ModuleList(stages)
        self.lateral = nn.ModuleList([nn.Conv2d(widths[i + 1], widths[i], 1) for i in range(len(widths) - 1)])
        self.merge = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(width, width, 3, 1, 1), group_norm(width), nn.ReLU(inplace=True))
                for width in widths[:-1]
            ]
        )
        self.token_size = widths[-1]
        self.dense_size = widths[-2]

    def forward(self, pixel_values: Tensor, place: Tensor | None = None) -> VisionFeatures:
        """Normalised pixels float (image, 3, size, size) to features at strides 32 (tokens), 16 (dense), 8, 4, 2."""
        maps = self.stem(pixel_values.contiguous(memory_format=torch.channels_last))
        levels = []
        for stage in self.stages:
            maps = stage(maps)
            levels.append(maps)
        levels[-2] = emphasise_place(levels[-2], place)
        merged = [levels[-1]]
        for level in range(len(levels) - 2, -1, -1):
            above = F.interpolate(self.lateral[level](merged[-1]), scale_factor=2, mode="bilinear", align_corners=False)
            merged.append(self.merge[level](levels[level] + above))
        tokens = merged[0].flatten(2).transpose(1, 2)
        return VisionFeatures(tokens=tokens, dense=merged[1], fine=tuple(merged[2:]))
