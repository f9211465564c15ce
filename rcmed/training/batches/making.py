"""Batches of a training step: drawn, reflected, warped, varied."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rcmed.modality import Modality
from rcmed.model.grounding.hint_prompts import PlacedHints
from rcmed.model.instruction import UNNAMED
from rcmed.training.batches.augmentation import (
    Intensity,
    bend,
    draw_displacement,
    draw_geometry,
    fill_frame,
    places_of,
    sample,
    swap_sides,
)
from rcmed.training.batches.conversations import Conversation, ConversationDraw, converse
from rcmed.training.batches.packed import VISIBLE_LIGHT, PackedTriplet
from rcmed.training.batches.reflection import reflect_beside
from rcmed.training.batches.sampler import BalancedSampler
from rcmed.training.batches.shares import Share
from rcmed.training.batches.shown_regions import NOTHING_KNOWN
from rcmed.training.batches.simulated_hints import simulate_hints
from rcmed.training.settings import TrainingSettings
from rcmed.vocabulary.mirroring import has_side

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
        regions: float32 (image, region), 1 shown, 0 not shown, NaN not known: see `shown_regions`.
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
    regions: Tensor
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
            regions=self.regions.pin_memory(),
            present=self.present.pin_memory(),
        )


class _Prompt(NamedTuple):
    """What is asked of an image of the step."""

    image: int
    name: str
    is_present: bool


@dataclass(frozen=True, eq=False)
class _Drawn:
    """The pictures of a step, and how each is to be varied.

    Attributes:
        images: float (3, size, size) in [0, 255] of each picture, some of them reflected.
        asked_masks: bool (prompt, size, size), as the picture is before it is warped.
        affines: float (picture, 2, 3).
        displacements: of each picture that is bent.
        prompts: their names follow a left-right flip.
    """

    triplets: list[PackedTriplet]
    images: list[Tensor]
    asked_masks: Tensor
    affines: Tensor
    displacements: list[Tensor | None]
    intensities: list[Intensity]
    prompts: list[_Prompt]

    @property
    def modalities(self) -> list[Modality]:
        return [triplet.modality for triplet in self.triplets]

    def places(self, pictures: slice) -> Tensor:
        """Where the cells of these pictures come from: see `places_of`."""
        places = places_of(self.affines[pictures], self.images[0].shape[-1])
        for index, displacement in enumerate(self.displacements[pictures]):
            if displacement is not None:
                places[index] = bend(places[index], displacement)
        return places

    def pictures(self, pictures: slice, places: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels float (picture, 3, size, size) in [0, 255], and bool (picture, 1, size, size): False at padding."""
        inside = torch.stack([triplet.inside() for triplet in self.triplets[pictures]]).float()
        sampled = sample(torch.cat([torch.stack(self.images[pictures]), inside], dim=1), places)
        varied = zip(self.intensities[pictures], sampled[:, :3], strict=True)
        return torch.stack([intensity.apply(image) for intensity, image in varied]), sampled[:, 3:] > 0.5

    def masks(self, prompts: slice, places: Tensor, first_picture: int) -> tuple[Tensor, Tensor]:
        """Bool (prompt, size, size), and bool (prompt,): whether any of it is in view; places start at a picture."""
        which = torch.tensor([prompt.image - first_picture for prompt in self.prompts[prompts]])
        masks = sample(self.asked_masks[prompts, None].float(), places[which])[:, 0] > 0.5
        # A mask that the geometry moved out of the picture is absent from what the model sees.
        present = torch.tensor([prompt.is_present for prompt in self.prompts[prompts]])
        return masks, present & masks.any(-1).any(-1)


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
        drawn = self._draw(generator, absent_rate, reflection_rate)
        share = _share(range(len(drawn.modalities)) if own is None else own, drawn.prompts, drawn.modalities)
        mine, first, last = slice(share.images.start, share.images.stop), share.prompts.start, share.prompts.stop
        with_hints = bool(hint_rate) and generator.random() < hint_rate
        # What a simulated user draws depends on the masks of all prompts before.
        taken = slice(0, len(drawn.prompts)) if with_hints else slice(first, last)
        seen = slice(0, len(drawn.modalities)) if with_hints else mine
        places = drawn.places(seen)
        pixels, inside = drawn.pictures(mine, places[mine] if with_hints else places)
        masks, in_view = drawn.masks(taken, places, seen.start)
        hints = None
        if with_hints:
            hints = simulate_hints(masks, in_view, generator).part(first, last)
            masks, in_view = masks[first:last], in_view[first:last]
        names = [prompt.name for prompt in drawn.prompts[first:last]]
        if with_hints:
            unnamed = generator.random(len(drawn.prompts)) < self.settings.unnamed_rate
            names = [
                UNNAMED if is_unnamed and shown else name
                for name, is_unnamed, shown in zip(names, unnamed[first:last], in_view, strict=True)
            ]
        batch = Batch(
            pixels=pixels,
            image_index=torch.tensor([prompt.image - share.images.start for prompt in drawn.prompts[first:last]]),
            names=names,
            modalities=drawn.modalities[mine],
            inside=inside,
            masks=masks,
            present=in_view,
            regions=torch.stack([self._regions(triplet) for triplet in drawn.triplets[mine]]),
            share=share,
            hints=hints,
        )
        if not in_conversations:
            return batch
        draws = [ConversationDraw.of(generator, self.settings.prompts_per_image) for _ in drawn.modalities]
        return replace(batch, conversations=_conversations(batch, draws[mine]))

    def _regions(self, triplet: PackedTriplet) -> Tensor:
        known = self.settings.dataset_regions.get(triplet.dataset)
        return NOTHING_KNOWN if known is None else known.known()

    def _draw(self, generator: np.random.Generator, absent_rate: float, reflection_rate: float) -> _Drawn:
        """All that is random of the pictures, before any is warped."""
        settings = self.settings
        drawn = self.sampler.draw(generator, absent_rate)
        modalities = [triplet.modality for triplet, _ in drawn]
        close_up_rates = [0.0 if _is_sided(asked) else settings.close_up_rate for asked in drawn]
        geometry = [
            draw_geometry(modality, generator, rate) for modality, rate in zip(modalities, close_up_rates, strict=True)
        ]
        images, masks = self._images(drawn, generator, reflection_rate)
        affines = [
            fill_frame(affine, pixels, generator)
            if modality not in VISIBLE_LIGHT and generator.random() < settings.fill_rate
            else affine
            for (affine, _), pixels, modality in zip(geometry, images, modalities, strict=True)
        ]
        displacements = [
            draw_displacement(generator)
            if settings.elastic_rate and generator.random() < settings.elastic_rate
            else None
            for _ in drawn
        ]
        size = (settings.image_size, settings.image_size)
        return _Drawn(
            triplets=[triplet for triplet, _ in drawn],
            images=images,
            asked_masks=torch.cat(masks),
            affines=torch.stack(affines),
            displacements=displacements,
            intensities=[Intensity.draw(modality, size, generator, settings.colour_rate) for modality in modalities],
            prompts=_prompts(drawn, [mirrored for _, mirrored in geometry]),
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


def _prompts(drawn: list[_Asked], mirrored: list[bool]) -> list[_Prompt]:
    return [
        _Prompt(index, swap_sides(name) if mirrored[index] else name, is_present)
        for index, (_, prompts) in enumerate(drawn)
        for name, is_present in prompts
    ]


def _share(own: range, prompts: list[_Prompt], modalities: list[Modality]) -> Share:
    numbers = [number for number, prompt in enumerate(prompts) if prompt.image in own]
    return Share(
        images=own,
        prompts=range(numbers[0], numbers[-1] + 1),
        image_count=len(modalities),
        asked=[(prompt.name, modalities[prompt.image]) for prompt in prompts],
    )


def _conversations(batch: Batch, draws: list[ConversationDraw]) -> tuple[Conversation, ...]:
    return tuple(
        conversation
        for index, draw in enumerate(draws)
        for conversation in converse(
            draw,
            torch.nonzero(batch.image_index == index).flatten().tolist(),
            batch.names,
            batch.masks & batch.present[:, None, None],
            batch.pixels[index],
            batch.inside[index],
            batch.modalities[index],
        )
    )
