"""Batches of a training step: drawn, reflected, warped, varied."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from rcmed.image import Modality
from rcmed.model.hint_prompts import PlacedHints
from rcmed.training.augmentation import (
    Intensity,
    bend,
    draw_displacement,
    draw_geometry,
    fill_frame,
    has_side,
    places_of,
    sample,
    swap_sides,
)
from rcmed.training.conversations import Conversation, ConversationDraw, converse
from rcmed.training.packed import VISIBLE_LIGHT, BalancedSampler, PackedTriplet
from rcmed.training.reflection import reflect_beside
from rcmed.training.settings import TrainingSettings
from rcmed.training.shares import Share
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
        share: which part of the step's batch it is: all of it, or what one of several processes takes.
        hints: of simulated users, in some batches.
        conversations: in which the prompts are put, in some runs; None: each is asked alone.
    """

    pixels: Tensor
    image_index: Tensor
    names: list[str]
    modalities: list[Modality]
    inside: Tensor
    masks: Tensor
    present: Tensor
    share: Share
    hints: PlacedHints | None = None
    conversations: tuple[Conversation, ...] | None = None

    def pin_memory(self) -> Batch:
        """The same in memory that a GPU copies from while it computes."""
        return replace(
            self,
            pixels=self.pixels.pin_memory(),
            image_index=self.image_index.pin_memory(),
            inside=self.inside.pin_memory(),
            masks=self.masks.pin_memory(),
            present=self.present.pin_memory(),
        )


class BatchMaker:
    """Makes batches; all that is random comes from the generator that is given."""

    def __init__(self, triplets: list[PackedTriplet], settings: TrainingSettings) -> None:
        self.settings = settings
        self.sampler = BalancedSampler(triplets, settings)

    def make(
        self,
        generator: np.random.Generator,
        absent_rate: float,
        reflection_rate: float,
        hint_rate: float = 0.0,
        own: range | None = None,
        in_conversations: bool = False,
    ) -> Batch:
        """Draw a batch, or the part of it that a process takes; what is drawn does not depend on the part.

        Args:
            generator: of everything random.
            absent_rate: probability of an absent target beside the present ones of an image.
            reflection_rate: probability of a reflection; 0: none, else a data set's own rate is the least.
            hint_rate: probability that the batch comes with hints.
            own: which of the images are wanted; none: all.
            in_conversations: put the prompts of an image into conversations, as published.
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
        displacements = [
            draw_displacement(generator)
            if self.settings.elastic_rate and generator.random() < self.settings.elastic_rate
            else None
            for _ in drawn
        ]
        size, colour_rate = self.settings.image_size, self.settings.colour_rate
        intensities = [Intensity.draw(modality, (size, size), generator, colour_rate) for modality in modalities]
        prompts = _prompts(drawn, [mirrored for _, mirrored in geometry])
        share = _share(range(len(drawn)) if own is None else own, prompts, modalities)
        mine, first, last = slice(share.images.start, share.images.stop), share.prompts.start, share.prompts.stop
        with_hints = bool(hint_rate) and generator.random() < hint_rate
        # What a simulated user draws depends on the masks of all prompts before.
        taken = slice(0, len(prompts)) if with_hints else slice(first, last)
        seen = slice(0, len(drawn)) if with_hints else mine
        places = places_of(affines[seen], size)
        for index, displacement in enumerate(displacements[seen]):
            if displacement is not None:
                places[index] = bend(places[index], displacement)
        own_places = places[mine] if with_hints else places

        filled = torch.stack([triplet.inside() for triplet, _ in drawn[mine]]).float()
        sampled = sample(torch.cat([torch.stack(images[mine]), filled], dim=1), own_places)
        inside = sampled[:, 3:] > 0.5
        pixels = torch.stack(
            [intensity.apply(image) for image, intensity in zip(sampled[:, :3], intensities[mine], strict=True)]
        )
        which = torch.tensor([image for image, _, _ in prompts])
        warped = sample(torch.cat(asked)[taken, None].float(), places[which[taken] - seen.start])[:, 0] > 0.5
        # A mask that the geometry moved out of the picture is absent from what the model sees.
        present = torch.tensor([is_present for _, _, is_present in prompts])
        in_view = present[taken] & warped.any(-1).any(-1)
        hints = None
        if with_hints:
            hints = simulate_hints(warped, in_view, generator).part(first, last)
            warped, in_view = warped[first:last], in_view[first:last]
        image_index, names = which[first:last] - share.images.start, [name for _, name, _ in prompts[first:last]]
        conversations: tuple[Conversation, ...] | None = None
        if in_conversations:
            draws = [ConversationDraw.of(generator, self.settings.prompts_per_image) for _ in drawn][mine]
            conversations = tuple(
                conversation
                for index, draw in enumerate(draws)
                for conversation in converse(
                    draw,
                    torch.nonzero(image_index == index).flatten().tolist(),
                    names,
                    warped & in_view[:, None, None],
                    pixels[index],
                    inside[index],
                    modalities[mine][index],
                )
            )
        return Batch(
            pixels=pixels,
            image_index=image_index,
            names=names,
            modalities=modalities[mine],
            inside=inside,
            masks=warped,
            present=in_view,
            share=share,
            hints=hints,
            conversations=conversations,
        )

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


def _prompts(drawn: list[_Asked], mirrored: list[bool]) -> list[tuple[int, str, bool]]:
    """(image, name, is present) of each prompt; names follow a left-right flip."""
    return [
        (index, swap_sides(name) if mirrored[index] else name, is_present)
        for index, (_, prompts) in enumerate(drawn)
        for name, is_present in prompts
    ]


def _share(own: range, prompts: list[tuple[int, str, bool]], modalities: list[Modality]) -> Share:
    numbers = [number for number, (image, _, _) in enumerate(prompts) if image in own]
    return Share(
        images=own,
        prompts=range(numbers[0], numbers[-1] + 1),
        image_count=len(modalities),
        asked=[(name, modalities[image]) for image, name, _ in prompts],
    )
