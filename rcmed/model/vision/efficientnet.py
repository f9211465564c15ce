"""EfficientNet-Lite0 as a vision tower: small, fast on a CPU, and to be had with ImageNet weights.

Tan and Le 2019 (arXiv 1905.11946), the Lite variant: ReLU6, no squeeze-and-excitation. Without the last convolution and
the classifier.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from rcmed.model.config import RCMedConfig
from rcmed.model.vision.pyramid import PyramidTower
from rcmed.model.vision.tower import VisionFeatures

STEM_CHANNELS = 32
NORM_EPSILON = 1e-3


class Stage(NamedTuple):
    """Blocks of one shape; `stride` is the first one's, the others keep the size."""

    kernel: int
    blocks: int
    inputs: int
    outputs: int
    expansion: int
    stride: int


STAGES = (
    Stage(3, 1, 32, 16, 1, 1),
    Stage(3, 2, 16, 24, 6, 2),
    Stage(5, 2, 24, 40, 6, 2),
    Stage(3, 3, 40, 80, 6, 2),
    Stage(5, 3, 80, 112, 6, 1),
    Stage(5, 4, 112, 192, 6, 2),
    Stage(3, 1, 192, 320, 6, 1),
)
# The last block at each of the strides 2, 4, 8, 16 and 32, and its channels.
TAPS = {0: 16, 2: 24, 4: 40, 10: 112, 15: 320}


class Convolution(nn.Module):
    """A convolution with its batch normalisation, which may have been folded into it, and ReLU6 behind them or not."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, groups: int, folded: bool, activated: bool = True
    ) -> None:
        super().__init__()
        # Half a kernel of padding on all sides, where TensorFlow pads unevenly: photographs are classified alike.
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=folded)
        self.norm = nn.Identity() if folded else nn.BatchNorm2d(outputs, eps=NORM_EPSILON, momentum=0.01)
        self.activation = nn.ReLU6(inplace=True) if activated else nn.Identity()

    def forward(self, maps: Tensor) -> Tensor:
        """Float (image, inputs, row, column) to (image, outputs, row / stride, column / stride)."""
        activated: Tensor = self.activation(self.norm(self.conv(maps)))
        return activated


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution, projection, and a shortcut where the shape stays (Sandler et al. 2018)."""

    def __init__(self, stage: Stage, first: bool, folded: bool) -> None:
        super().__init__()
        inputs, stride = (stage.inputs, stage.stride) if first else (stage.outputs, 1)
        inner = inputs * stage.expansion
        layers = [] if stage.expansion == 1 else [Convolution(inputs, inner, 1, 1, 1, folded)]
        layers.append(Convolution(inner, inner, stage.kernel, stride, inner, folded))
        layers.append(Convolution(inner, stage.outputs, 1, 1, 1, folded, activated=False))
        self.layers = nn.Sequential(*layers)
        self.keeps_shape = inputs == stage.outputs and stride == 1

    def forward(self, maps: Tensor) -> Tensor:
        """Float (image, inputs, row, column) to (image, outputs, row / stride, column / stride)."""
        changed: Tensor = self.layers(maps)
        return changed + maps if self.keeps_shape else changed


class EfficientNetTower(PyramidTower):
    """EfficientNet-Lite0, its maps brought to the pyramid's widths, and a way back up."""

    def __init__(self, config: RCMedConfig) -> None:
        widths = config.vision_widths
        super().__init__(widths)
        assert config.vision is not None
        folded = bool(config.vision.get("folded", False))
        self.stem = Convolution(3, STEM_CHANNELS, 3, 2, 1, folded)
        self.blocks = nn.ModuleList(
            [InvertedResidual(stage, not index, folded) for stage in STAGES for index in range(stage.blocks)]
        )
        self.taps = nn.ModuleList(
            [nn.Conv2d(channels, width, 1) for channels, width in zip(TAPS.values(), widths, strict=True)]
        )
        # Thin targets need more at stride 2 than the sixteen channels of the first block.
        self.stem_tap = nn.Conv2d(STEM_CHANNELS, widths[0], 1)
        self._add_way_up(widths)

    def encoder(self) -> list[nn.Module]:
        """The parts that have ImageNet weights."""
        return [self.stem, self.blocks]

    def forward(self, pixel_values: Tensor, place: Tensor | None = None) -> VisionFeatures:
        """Normalised pixels float (image, 3, size, size) to features at strides 32 (tokens), 16 (dense), 8, 4, 2."""
        maps = stem = self.stem(pixel_values.contiguous(memory_format=torch.channels_last))
        levels: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            maps = block(maps)
            if index in TAPS:
                levels.append(self.taps[len(levels)](maps))
        levels[0] = levels[0] + self.stem_tap(stem)
        return self._way_up(levels, place)
