"""Batches of a training step: drawn, reflected, warped, varied."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rcmed.image import Modality
from rcmed.model.hint_prompts import PlacedHints
from rcmed.training.augmentation import draw_geometry, fill_frame, has_side, swap_sides, vary_intensity, warp
from rcmed.training.packed import VISIBLE_LIGHT, BalancedSampler, PackedTriplet
from rcmed.training.reflection import reflect_beside
from rcmed.training.settings import TrainingSettings
from rcmed.training.simulated_hints import simulate_hints

# An image with the (name, is present) that are asked of it.
_Asked = tuple[PackedTriplet, list[tuple[str, bool]]]


@dataclass(frozen=True, eq=False)
class Batch:
    """Images and prompts of a step.

    Attributes:
        pixels: float (image, 3, size, size) in [0, 255].
        image_index: int64 (prompt,): the image that each prompt asks about.
        names: of each prompt's target.
        modalities: of each image.
        inside: bool (image, 1, size, size): False at padding, and at what the geometry brought in from beyond.
        masks: bool (prompt, size, size).
        present: bool (prompt,): whether the target is in what the model sees.
        hints: of simulated users, in some batches.
    """

    pixels: Tensor
    image_index: Tensor
    names: list[str]
    modalities: list[Modality]
    inside: Tensor
    masks: Tensor
    present: Tensor
    hints: PlacedHints | None = None


class BatchMaker:
    """Makes batches; all that is random comes from the generator that is given."""

    def __init__(self, triplets: list[PackedTriplet], settings: TrainingSettings) -> None:
        self.settings = settings
        self.sampler = BalancedSampler(triplets, settings)

    def make(
        self, generator: np.random.Generator, absent_rate: float, reflection_rate: float, hint_rate: float = 0.0
    ) -> Batch:
        """Draw a batch.

        Args:
            generator: of everything random.
            absent_rate: probability of an absent target beside the present ones of an image.
            reflection_rate: probability of a reflection; 0: none, else a data set's own rate is the least.
            hint_rate: probability that the batch comes with hints.
        """
        drawn = self.sampler.draw(generator, absent_rate)
        close_up_rates = [0.0 if _is_sided(asked) else self.settings.close_up_rate for asked in drawn]
        geometry = [
            draw_geometry(triplet.modality, generator, rate)
            for (triplet, _), rate in zip(drawn, close_up_rates, strict=True)
        ]
        modalities = [triplet.modality for triplet, _ in drawn]
        images, asked = self._images(drawn, generator, reflection_rate)
        affines = torch.stack(
            [
                fill_frame(affine, pixels, generator)
                if modality not in VISIBLE_LIGHT and generator.random() < self.settings.fill_rate
                else affine
                for (affine, _), pixels, modality in zip(geometry, images, modalities, strict=True)
            ]
        )
        filled = torch.zeros(len(drawn), 1, self.settings.image_size, self.settings.image_size)
        for index, (triplet, _) in enumerate(drawn):
            filled[index, :, : triplet.shape[0], : triplet.shape[1]] = 1
        inside = warp(filled, affines) > 0.5
        pixels = vary_intensity(warp(torch.stack(images), affines), modalities, generator)
        names, present, image_index = [], [], []
        for index, ((_, prompts), (_, mirrored)) in enumerate(zip(drawn, geometry, strict=True)):
            for name, is_present in prompts:
                names.append(swap_sides(name) if mirrored else name)
                present.append(is_present)
                image_index.append(index)
        which = torch.tensor(image_index)
        warped = warp(torch.cat(asked)[:, None].float(), affines[which])[:, 0] > 0.5
        # A mask that the geometry moved out of the picture is absent from what the model sees.
        in_view = torch.tensor(present) & warped.any(-1).any(-1)
        hints = None
        if hint_rate and generator.random() < hint_rate:
            hints = simulate_hints(warped, in_view, generator)
        return Batch(pixels, which, names, modalities, inside, warped, in_view, hints)

    def _images(
        self, drawn: list[_Asked], generator: np.random.Generator, reflection_rate: float
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Pixels float (3, size, size) and masks bool (prompt, size, size) of each image; some of them reflected."""
        images, asked = [], []
        for triplet, prompts in drawn:
            pixels = triplet.pixels.float()
            masks = torch.stack([triplet.mask(name) for name, _ in prompts])
            present = [number for number, (_, is_present) in enumerate(prompts) if is_present]
            rate = max(reflection_rate, self.settings.reflection_rates.get(triplet.dataset, 0.0))
            may_reflect = present and not _is_sided((triplet, prompts)) and reflection_rate > 0
            if may_reflect and generator.random() < rate:
                pivot = present[int(generator.integers(len(present)))]
                pixels, masks = reflect_beside(pixels, masks, pivot, generator) or (pixels, masks)
            images.append(pixels)
            asked.append(masks)
        return images, asked


def _is_sided(asked: _Asked) -> bool:
    return any(has_side(name) for name, _ in asked[1])
