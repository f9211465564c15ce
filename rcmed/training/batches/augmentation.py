"""Geometric and intensity augmentation of a batch, on tensors."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from rcmed.modality import Modality
from rcmed.training.batches.packed import VISIBLE_LIGHT
from rcmed.vocabulary.mirroring import mirrored_name

# MR sequences differ in what is bright; no data set shows them all.
_CONTRAST_RATE = 0.4
_INVERSION_RATE = 0.5
# MR is acquired at very different resolutions.
_MR_BLUR_RATE = 0.3
_BLUR_RATE = 0.15
_NOISE_RATE = 0.25
_BLUR_WIDTHS = (3, 5, 7)
_BLUR_WIDTH_RATES = (0.65, 0.25, 0.1)
# In units of half the picture.
_DISPLACEMENT_SPREAD = (0.01, 0.05)
# A sonographer sets depth and gain along the depth by hand, so scale and brightness tell nothing of a structure.
_ZOOM_SPREAD = {Modality.ULTRASOUND: 0.3}
_DEPTH_GAIN_SPREAD = 0.3
_DEPTH_GAIN_RATE = 0.5
_SATURATION_SPREAD = 0.35
_HUE_SPREAD_DEGREES = 12
_BACKGROUND = 0.04
# Radiographs and body slices have a fixed left and right; a rare flip still teaches that names follow places.
_FLIP_RATE = {Modality.CT: 0.15, Modality.X_RAY: 0.3, Modality.MR: 0.3, Modality.PET: 0.3}
# By how much a part of the image fills the grid in a close-up. What lies outside is absent from what the model sees:
# that teaches it the absence of targets of which data sets show only positive images (a healthy brain, say).
_CLOSE_UP_ZOOM = (1.4, 2.4)


def swap_sides(name: str) -> str:
    """The name of a target after a left-right flip: of paired organs the other one, else the same."""
    return mirrored_name(name)


def draw_geometry(modality: Modality, generator: np.random.Generator, close_up_rate: float) -> tuple[Tensor, bool]:
    """An affine (2, 3) for `affine_grid` and whether it mirrors left and right."""
    angle = math.radians(generator.normal(0, 9 if modality not in VISIBLE_LIGHT else 20))
    zoom = math.exp(generator.normal(0, _ZOOM_SPREAD.get(modality, 0.15)))
    stretch = math.exp(generator.normal(0, 0.06))
    mirrored = bool(generator.random() < _FLIP_RATE.get(modality, 0.5))
    x = (-1.0 if mirrored else 1.0) * stretch / zoom
    y = 1.0 / (stretch * zoom)
    if modality in VISIBLE_LIGHT and generator.random() < 0.5:
        y = -y
    shift = generator.normal(0, 0.06, size=2)
    if generator.random() < close_up_rate:
        close = generator.uniform(*_CLOSE_UP_ZOOM)
        x, y = x / close, y / close
        shift = generator.uniform(-1, 1, size=2) * (1 - 1 / close)
    cos, sin = math.cos(angle), math.sin(angle)
    return torch.tensor([[x * cos, -y * sin, shift[0]], [x * sin, y * cos, shift[1]]], dtype=torch.float32), mirrored


def fill_frame(affine: Tensor, pixels: Tensor, generator: np.random.Generator) -> Tensor:
    """The affine, after what is shown was made to fill the grid: series are cropped more or less tightly.

    Args:
        affine: float (2, 3), from the new picture to the old one, both in [-1, 1].
        pixels: float (channel, row, column) in [0, 255] of the old one.
    """
    shown = pixels.amax(0) > 255 * _BACKGROUND
    if not shown.any():
        return affine
    limits = []
    for axis in (0, 1):
        covered = torch.nonzero(shown.any(axis)).flatten()
        size = shown.shape[1 - axis]
        limits.append((2 * float(covered[0]) / size - 1, 2 * float(covered[-1] + 1) / size - 1))
    centre = torch.tensor([(low + high) / 2 for low, high in limits])
    half = max((high - low) / 2 for low, high in limits) * generator.uniform(1.0, 1.15)
    filled = affine * half
    filled[:, 2] += centre
    return filled


def warp(maps: Tensor, affines: Tensor) -> Tensor:
    """Resample float (item, channel, row, column) by affines (item, 2, 3); zeros outside."""
    return sample(maps, places_of(affines, maps.shape[-1]))


def places_of(affines: Tensor, size: int) -> Tensor:
    """Where the cells of a square grid come from, float (item, row, column, 2) in [-1, 1], by affines (item, 2, 3)."""
    return F.affine_grid(affines, [len(affines), 1, size, size], align_corners=False)


def sample(maps: Tensor, places: Tensor) -> Tensor:
    """Float (item, channel, row, column) read at places (item, row, column, 2) in [-1, 1]; zeros outside."""
    return F.grid_sample(maps, places, mode="bilinear", padding_mode="zeros", align_corners=False)


def draw_displacement(generator: np.random.Generator) -> Tensor:
    """How soft tissue may be bent: displacements float32 (2, 6, 6) in [-1, 1] at even places, to be interpolated."""
    spread = generator.uniform(*_DISPLACEMENT_SPREAD)
    return torch.from_numpy(generator.normal(0, spread, size=(2, 6, 6)).astype(np.float32))


def bend(places: Tensor, displacement: Tensor) -> Tensor:
    """Places float (row, column, 2) moved by a displacement (2, coarse row, coarse column)."""
    fine = F.interpolate(displacement[None], size=places.shape[:2], mode="bicubic", align_corners=True)
    return places + fine[0].permute(1, 2, 0)


def change_contrast(values: Tensor, generator: np.random.Generator) -> Tensor:
    """Grey values through a random rising curve, at times turned round: what is bright depends on the MR sequence.

    Args:
        values: float (channel, row, column) in [0, 1]; background (0) stays as it is.
    """
    return _bend(values, _draw_curve(generator))


def _draw_curve(generator: np.random.Generator) -> NDArray[np.float64]:
    heights: NDArray[np.float64] = np.sort(np.concatenate([[0.0], generator.random(4), [1.0]]))
    if generator.random() < _INVERSION_RATE:
        heights = 1 - heights
    return heights


def _bend(values: Tensor, heights: NDArray[np.float64]) -> Tensor:
    changed = np.interp(values.numpy(), np.linspace(0, 1, len(heights)), heights).astype(np.float32)
    return torch.where(values > _BACKGROUND, torch.from_numpy(changed), values)


def _draw_depth_gains(rows: int, generator: np.random.Generator) -> Tensor:
    """Gains at four even depths, their logarithm interpolated between them: float32 (1, row, 1)."""
    gains = torch.from_numpy(generator.normal(0, _DEPTH_GAIN_SPREAD, size=(1, 1, 4)).astype(np.float32))
    return F.interpolate(gains, size=rows, mode="linear", align_corners=True).exp().view(1, rows, 1)


def _draw_colours(generator: np.random.Generator) -> Tensor:
    """A turn about the grey axis and a stretch away from it: what is grey stays as it is."""
    angle = math.radians(generator.normal(0, _HUE_SPREAD_DEGREES))
    saturation = math.exp(generator.normal(0, _SATURATION_SPREAD))
    grey = np.full((3, 3), 1 / 3)
    across = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    turned = math.cos(angle) * (np.eye(3) - grey) + math.sin(angle) * across
    return torch.tensor(grey + saturation * turned, dtype=torch.float32)


@dataclass(frozen=True, eq=False)
class Intensity:
    """How the intensity of one picture is varied.

    Attributes:
        curve: heights of a contrast curve at even steps; None: the contrast stays.
        gamma, gain, offset: of the values in [0, 1].
        gains: float32, of each colour (3, 1, 1) or along the depth of an ultrasound image (1, row, 1); None: none.
        colours: float32 (3, 3), turns hue and saturation; None: they stay.
        blur: width of the mean in pixels; None: as sharp as it was.
        noise: float32 (1, row, column), added; None: none.
    """

    curve: NDArray[np.float64] | None
    gamma: float
    gain: float
    offset: float
    gains: Tensor | None
    colours: Tensor | None
    blur: int | None
    noise: Tensor | None

    @classmethod
    def draw(
        cls, modality: Modality, size: tuple[int, int], generator: np.random.Generator, colour_rate: float = 0.0
    ) -> Intensity:
        """All that is random, for a picture of so many rows and columns; it depends on nothing that the picture shows.

        So a process that does not need a picture draws what another one draws, and goes on from there alike.
        """
        is_mr = modality is Modality.MR
        curve = _draw_curve(generator) if is_mr and generator.random() < _CONTRAST_RATE else None
        gamma = math.exp(generator.normal(0, 0.2))
        gain, offset = math.exp(generator.normal(0, 0.15)), generator.normal(0, 0.06)
        gains = colours = blur = noise = None
        if modality in VISIBLE_LIGHT:
            gains = torch.tensor(np.exp(generator.normal(0, 0.07, size=3)), dtype=torch.float32).view(3, 1, 1)
            if colour_rate and generator.random() < colour_rate:
                colours = _draw_colours(generator)
        elif modality is Modality.ULTRASOUND and generator.random() < _DEPTH_GAIN_RATE:
            gains = _draw_depth_gains(size[0], generator)
        if generator.random() < (_MR_BLUR_RATE if is_mr else _BLUR_RATE):
            blur = int(generator.choice(_BLUR_WIDTHS, p=_BLUR_WIDTH_RATES))
        if generator.random() < _NOISE_RATE:
            noise = torch.from_numpy(generator.standard_normal((1, *size), dtype=np.float32))
            noise = noise * abs(generator.normal(0, 0.04))
        return cls(curve, gamma, gain, offset, gains, colours, blur, noise)

    def apply(self, image: Tensor) -> Tensor:
        """Vary a picture, float (3, row, column) in [0, 255]."""
        values = image / 255.0
        if self.curve is not None:
            values = _bend(values, self.curve)
        values = values.clamp(0, 1) ** self.gamma
        if self.gains is not None:
            values = values * self.gains
        if self.colours is not None:
            values = torch.einsum("ij,jrc->irc", self.colours, values)
        inside = (image > 0).any(0, keepdim=True)
        values = (values * self.gain + self.offset * inside).clamp(0, 1)
        if self.blur is not None:
            values = F.avg_pool2d(values[None], self.blur, 1, self.blur // 2, count_include_pad=False)[0]
        if self.noise is not None:
            values = values + self.noise
        return values.clamp(0, 1) * 255.0


def vary_intensity(pixels: Tensor, modalities: list[Modality], generator: np.random.Generator) -> Tensor:
    """Contrast, brightness, gamma, colour, blur and noise; float (image, 3, row, column) in [0, 255]."""
    rows, columns = pixels.shape[-2:]
    drawn = (Intensity.draw(modality, (rows, columns), generator) for modality in modalities)
    return torch.stack([intensity.apply(image) for image, intensity in zip(pixels, drawn, strict=True)])
