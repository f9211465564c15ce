"""What a model answers on slices in memory, decided as in use, and how good that is."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from monai.metrics import compute_dice
from numpy.typing import NDArray

from rcmed.findings import FindingStatus
from rcmed.inference.decision import PresenceRule, decide
from rcmed.model.config import RCMedConfig
from rcmed.model.heads.presence import mask_sureness
from rcmed.model.knowledge import known_targets
from rcmed.model.modeling import RCMedModel
from rcmed.model.processor import RCMedProcessor
from rcmed.training.batches.packed import PackedTriplet

_IMAGES_AT_ONCE = 4


@dataclass(frozen=True, eq=False)
class Answer:
    """To one target in one slice.

    Attributes:
        mask: bool (size, size) on the model grid, empty where the target is judged absent.
        is_found: whether the model is sure that the target is there (its presence reaches the found threshold, or it
            has no presence and marks something).
    """

    mask: NDArray[np.bool_]
    is_found: bool


def ask(
    model: RCMedModel, processor: RCMedProcessor, slices: Sequence[PackedTriplet], names: Sequence[Sequence[str]]
) -> list[dict[str, Answer]]:
    """Ask each slice for targets of its own; a slice is an image of its own, decided as `rcmed.Assistant` decides one.

    Args:
        names: for each slice, the targets.
    """
    model.eval()
    before, after = (ids.to(model.device) for ids in processor.surroundings())
    rule = PresenceRule.of(cast(RCMedConfig, model.config))
    answers: list[dict[str, Answer]] = []
    for first in range(0, len(slices), _IMAGES_AT_ONCE):
        part = slices[first : first + _IMAGES_AT_ONCE]
        asked = [(i, name) for i, wanted in enumerate(names[first : first + len(part)]) for name in wanted]
        answers += [{} for _ in part]
        if not asked:
            continue
        with torch.inference_mode():
            pixels = processor.normalise(torch.stack([each.pixels.float() for each in part]))
            if not processor.pads_before_normalising:
                pixels = pixels * torch.stack([each.inside() for each in part])
            encoded = model.encode(pixels.to(model.device, model.dtype), before, after)
            prompts = processor.prepare_prompts([n for _, n in asked], [part[i].modality for i, _ in asked])
            which = torch.tensor([i for i, _ in asked], device=model.device)
            output = model.ground(encoded, which, prompts.to(model.device))
            assert output.mask_logits is not None
            size = (processor.image_size, processor.image_size)
            full = F.interpolate(output.mask_logits[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
            masks = (full > 0).cpu().numpy()
            sureness = mask_sureness(output.mask_logits).float().cpu().numpy()
            presence = np.full(len(asked), np.nan, dtype=np.float32)
            if output.presence_logits is not None:
                presence = output.presence_logits.sigmoid().float().cpu().numpy()
        for number, (index, name) in enumerate(asked):
            only = slice(number, number + 1)
            said = decide(masks[only], presence[only], sureness[only], rule)
            answers[first + index][name] = Answer(said.mask[0], said.status is FindingStatus.FOUND)
    return answers


def agreement(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Dice of two masks of any same shape; 1 where both are empty, as two that say "absent" agree."""
    if not one.any() or not other.any():
        return float(one.any() == other.any())
    first, second = (torch.from_numpy(np.ascontiguousarray(mask))[None, None] for mask in (one, other))
    return float(compute_dice(first, second))


@dataclass(frozen=True)
class PairScore:
    """How good the answer to one labelled target of one slice is.

    Attributes:
        target: its name.
        dice: in [0, 1]; of a target that is said to be absent 1 if nothing is marked, else 0.
    """

    target: str
    dice: float


def labelled_names(each: PackedTriplet) -> list[str]:
    """Targets of which something is known in a slice."""
    return [*sorted(each.masks), *each.absent]


def score_pairs(model: RCMedModel, processor: RCMedProcessor, slices: Sequence[PackedTriplet]) -> list[PairScore]:
    """The scores of every labelled target of every slice, in the order of the slices."""
    answers = ask(model, processor, slices, [labelled_names(each) for each in slices])
    return [
        PairScore(name, agreement(answer.mask, each.mask(name).numpy()))
        for each, answered in zip(slices, answers, strict=True)
        for name, answer in answered.items()
    ]


def mean_by_target(scores: Sequence[PairScore]) -> Mapping[str, tuple[float, int]]:
    """Mean score and number of pairs of each target."""
    by_target: dict[str, list[float]] = {}
    for each in scores:
        by_target.setdefault(each.target, []).append(each.dice)
    return {name: (float(np.mean(values)), len(values)) for name, values in sorted(by_target.items())}


def other_targets(model: RCMedModel, each: PackedTriplet, left_out: Sequence[str]) -> list[str]:
    """Names of the targets that the weights know in the slice's modality, but those that are left out."""
    known = known_targets(cast(RCMedConfig, model.config), each.modality)
    return [target.name for target in known if target.name not in left_out]


def agreements(
    old: RCMedModel,
    new: RCMedModel,
    processor: RCMedProcessor,
    slices: Sequence[PackedTriplet],
    left_out: Collection[str],
) -> dict[str, tuple[float, int]]:
    """How far new weights answer as old ones do where nobody labelled the target: mean Dice and number of slices.

    Only what the old weights are sure of counts: that a target is there, or that nothing is to be marked.

    Args:
        left_out: targets that are meant to change; those that a slice has a label of are left out there, too.
    """
    names = [other_targets(old, each, [*left_out, *each.masks, *each.absent]) for each in slices]
    scores = [
        PairScore(name, agreement(answer.mask, of_new[name].mask))
        for of_old, of_new in zip(ask(old, processor, slices, names), ask(new, processor, slices, names), strict=True)
        for name, answer in of_old.items()
        if answer.is_found or not answer.mask.any()
    ]
    return dict(mean_by_target(scores))
