"""A new target from a few annotated images, without changing the weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from rcmed.errors import InputError
from rcmed.image import Modality
from rcmed.model.exemplar import Exemplar
from rcmed.model.modeling import EncodedImage, RCMedModel
from rcmed.model.processor import RCMedProcessor, to_model_grid
from rcmed.training.augmentation import draw_geometry, vary_intensity, warp
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
        images, targets = _with_copies(images, targets, modality, np.random.default_rng(seed))
        parts = processor.normalise(images).to(device, model.dtype).split(_IMAGES_PER_STEP)
        encoded = _join([model.encode(part, before, after, exemplar) for part in parts])
    return _fit_prompt(model, processor, name, modality, exemplar, encoded, targets.to(device), fit_steps, seed)


def _with_copies(
    images: Tensor, masks: Tensor, modality: Modality, generator: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Images float (n, 3, size, size) and masks float (n, size, size) with copies, but those that lost their target."""
    all_images, all_masks = [images], [masks]
    for _ in range(COPIES):
        affines = torch.stack([draw_geometry(modality, generator, 0.0)[0] for _ in images])
        warped = warp(masks[:, None], affines)[:, 0]
        kept = (warped > 0.5).flatten(1).any(1)
        varied = vary_intensity(warp(images, affines), [modality] * len(images), generator)
        all_images.append(varied[kept])
        all_masks.append(warped[kept])
    return torch.cat(all_images), torch.cat(all_masks)


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
    name: str,
    modality: Modality,
    exemplar: Exemplar,
    encoded: EncodedImage,
    masks: Tensor,
    steps: int,
    seed: int,
) -> Exemplar:
    correction = torch.zeros(model.config.prompt_size, device=model.device, dtype=model.dtype, requires_grad=True)
    optimiser = torch.optim.Adam([correction], lr=FIT_LEARNING_RATE)
    generator = np.random.default_rng((seed, 1))
    shown = min(_IMAGES_PER_STEP, len(masks))
    prompts = processor.prepare_prompts([name] * shown, [modality] * shown).to(model.device)
    fitted = Exemplar(exemplar.prototype, exemplar.place, correction)
    for _ in range(steps):
        which = torch.from_numpy(generator.permutation(len(masks))[:shown]).to(model.device)
        output = model.ground(encoded, which, prompts, fitted)
        assert output.mask_logits is not None
        logits = F.interpolate(
            output.mask_logits[:, None], size=masks.shape[-2:], mode="bilinear", align_corners=False
        )[:, 0]
        wanted = masks[which]
        overlap = soft_dice(logits, wanted).mean()
        pixel = F.binary_cross_entropy_with_logits(logits, wanted)
        loss = WEIGHTS["dice"] * overlap + WEIGHTS["cross_entropy"] * pixel
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return Exemplar(exemplar.prototype, exemplar.place, correction.detach())
