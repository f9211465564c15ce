"""A convolutional pyramid that learns from little data and runs on a CPU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rcmed.model.config import RCMedConfig
from rcmed.model.vision.pyramid import PyramidTower, group_norm
from rcmed.model.vision.tower import VisionFeatures


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


class ConvolutionalTower(PyramidTower):
    """Residual stages at strides 2 to 32, and a way back up."""

    def __init__(self, config: RCMedConfig) -> None:
        widths = config.vision_widths
        super().__init__(widths)
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
        self._add_way_up(widths)

    def forward(self, pixel_values: Tensor, place: Tensor | None = None) -> VisionFeatures:
        """Normalised pixels float (image, 3, size, size) to features at strides 32 (tokens), 16 (dense), 8, 4, 2."""
        maps = self.stem(pixel_values.contiguous(memory_format=torch.channels_last))
        levels = []
        for stage in self.stages:
            maps = stage(maps)
            levels.append(maps)
        return self._way_up(levels, place)
