"""A new target from a few annotated images, without changing the weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from rcmed.errors import InputError
from rcmed.modality import Modality
from rcmed.model.exemplar import Exemplar
from rcmed.model.modeling import EncodedImage, PromptTokens, RCMedModel
from rcmed.model.processor import RCMedProcessor, to_model_grid
from rcmed.training.batches.augmentation import draw_geometry, swap_sides, vary_intensity, warp
from rcmed.training.losses import WEIGHTS, soft_dice

# Beside each example, so many warped copies of it: a handful of images says little of what may vary.
COPIES = 5
FIT_STEPS = 60
FIT_LEARNING_RATE = 0.05
_IMAGES_PER_STEP = 6


def learn_from_examples(
    model: RCMedModel,
    processor: RCMedProcessor,
    name: str,
    modality: Modality,
    pixels: Sequence[NDArray[np.uint8]],
    masks: Sequence[NDArray[np.bool_]],
    fit_steps: int = FIT_STEPS,
    seed: int = 0,
) -> Exemplar:
    """Prototype, place and prompt of a target; the model stays as it is, but that its gradients are switched off.

    Args:
        name: of the target, as it will be asked for.
        pixels: uint8 (row, column, 3) each.
        masks: bool (row, column) each, on the pixels' grid.
        fit_steps: optimiser steps for the prompt's correction; 0: prototype and place only, as published.
        seed: of the copies and of the order that they are shown in.
    Raises:
        InputError: there is no example, or a mask is empty.
    """
    if not pixels or not all(mask.any() for mask in masks):
        raise InputError(f"examples of {name}: at least one image is needed, and no mask may be empty")
    size = processor.image_size
    device = model.device
    images = torch.cat([to_model_grid(torch.tensor(each).permute(2, 0, 1)[None].float(), size) for each in pixels])
    targets = torch.cat([to_model_grid(torch.tensor(each)[None, None].float(), size)[:, 0] for each in masks])
    before, after = (ids.to(device) for ids in processor.surroundings())
    model.requires_grad_(False)
    with torch.no_grad():
        dense = model.vision(processor.normalise(images).to(device, model.dtype)).dense
        exemplar = Exemplar.of(dense, targets.to(device))
        if not fit_steps:
            return exemplar
        examples = _with_copies(images, targets, name, modality, np.random.default_rng(seed))
        parts = [
            model.encode(processor.normalise(part).to(device, model.dtype), before, after, shown)
            for images, shown in ((examples.images, exemplar), (examples.mirrored_images, exemplar.mirrored()))
            for part in (images.split(_IMAGES_PER_STEP) if len(images) else ())
        ]
    return _fit_prompt(model, processor, exemplar, _join(parts), examples, fit_steps, seed)


@dataclass(frozen=True, eq=False)
class _Shown:
    """Examples and their copies.

    Attributes:
        name: of the target.
        images: float (n, 3, size, size), that show the target under its name.
        mirrored_images: the same, (m, 3, size, size), of mirrored copies that show it under the other side's name.
        masks: float (n + m, size, size) of both.
    """

    name: str
    modality: Modality
    images: Tensor
    mirrored_images: Tensor
    masks: Tensor


def _with_copies(
    images: Tensor, masks: Tensor, name: str, modality: Modality, generator: np.random.Generator
) -> _Shown:
    """Images float (n, 3, size, size) and masks float (n, size, size) with copies, but those that lost their target.

    A mirrored copy of a paired organ shows the other one. Shown as the named one, it would teach that the side in a
    name means nothing.
    """
    has_counterpart = swap_sides(name) != name
    all_images, all_masks = [images], [masks]
    swapped = [torch.zeros(len(images), dtype=torch.bool)]
    for _ in range(COPIES):
        geometry = [draw_geometry(modality, generator, 0.0) for _ in images]
        affines = torch.stack([affine for affine, _ in geometry])
        warped = warp(masks[:, None], affines)[:, 0]
        kept = (warped > 0.5).flatten(1).any(1)
        varied = vary_intensity(warp(images, affines), [modality] * len(images), generator)
        all_images.append(varied[kept])
        all_masks.append(warped[kept])
        swapped.append(torch.tensor([has_counterpart and mirrored for _, mirrored in geometry])[kept])
    shown, drawn, other = torch.cat(all_images), torch.cat(all_masks), torch.cat(swapped)
    return _Shown(name, modality, shown[~other], shown[other], torch.cat([drawn[~other], drawn[other]]))


def _join(parts: Sequence[EncodedImage]) -> EncodedImage:
    prefixes = [part.prefix for part in parts]
    prefix = replace(
        prefixes[0],
        keys=tuple(torch.cat(layer) for layer in zip(*(each.keys for each in prefixes), strict=True)),
        values=tuple(torch.cat(layer) for layer in zip(*(each.values for each in prefixes), strict=True)),
        image_states=torch.cat([each.image_states for each in prefixes]),
    )
    fine = tuple(torch.cat(maps) for maps in zip(*(part.fine for part in parts), strict=True))
    return EncodedImage(torch.cat([part.dense for part in parts]), fine, prefix)


def _fit_prompt(
    model: RCMedModel,
    processor: RCMedProcessor,
    exemplar: Exemplar,
    encoded: EncodedImage,
    examples: _Shown,
    steps: int,
    seed: int,
) -> Exemplar:
    correction = torch.zeros(model.config.prompt_size, device=model.device, dtype=model.dtype, requires_grad=True)
    optimiser = torch.optim.Adam([correction], lr=FIT_LEARNING_RATE)
    generator = np.random.default_rng((seed, 1))
    masks = examples.masks.to(model.device)
    shown = min(_IMAGES_PER_STEP, len(masks))
    asked = [
        (processor.prepare_prompts([name] * shown, [examples.modality] * shown).to(model.device), fitted)
        for name, fitted in (
            (examples.name, replace(exemplar, correction=correction)),
            (swap_sides(examples.name), replace(exemplar.mirrored(), correction=correction)),
        )
    ]
    for _ in range(steps):
        drawn = torch.from_numpy(generator.permutation(len(masks))[:shown])
        is_other = drawn >= len(examples.images)
        parts = [
            _mask_logits(model, encoded, which.to(model.device), prompts.part(0, len(which)), fitted, masks.shape[-2:])
            for which, (prompts, fitted) in zip((drawn[~is_other], drawn[is_other]), asked, strict=True)
            if len(which)
        ]
        logits = torch.cat(parts)
        wanted = masks[torch.cat([drawn[~is_other], drawn[is_other]]).to(model.device)]
        overlap = soft_dice(logits, wanted).mean()
        pixel = F.binary_cross_entropy_with_logits(logits, wanted)
        loss = WEIGHTS["dice"] * overlap + WEIGHTS["cross_entropy"] * pixel
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return replace(exemplar, correction=correction.detach())


def _mask_logits(
    model: RCMedModel,
    encoded: EncodedImage,
    which: Tensor,
    prompts: PromptTokens,
    exemplar: Exemplar,
    size: torch.Size,
) -> Tensor:
    """Mask logits float (prompt, *size) of the images that int64 (prompt,) names."""
    output = model.ground(encoded, which, prompts, exemplar)
    assert output.mask_logits is not None
    return F.interpolate(output.mask_logits[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
