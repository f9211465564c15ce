"""One image of an index, asked and scored target by target."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rcmed.assistant import Assistant
from rcmed.data.triplets import Triplet
from rcmed.errors import InputError
from rcmed.evaluation.metrics import score_mask
from rcmed.evaluation.recognition import count_boxes
from rcmed.evaluation.rows import ScoreRow
from rcmed.evaluation.simulated_user import box_around, click_inside
from rcmed.findings import Finding
from rcmed.image import Grid, Image
from rcmed.measurements import find_boxes
from rcmed.vocabulary import Target, load_targets, target_named


def image_of(triplet: Triplet) -> Image:
    """The triplet's picture as an image without a place in the patient."""
    pixels = triplet.read_pixels()[None]
    return Image(pixels, Grid.without_geometry(*pixels.shape[1:3]), triplet.modality)


def scorable(assistant: Assistant, names: Sequence[str]) -> list[str]:
    """Of these names those that a target has, of the vocabulary or of the weights' own."""
    known = {target.name for target in load_targets()} | set(assistant.own_targets)
    return [name for name in names if name in known]


def score_triplet(
    triplet: Triplet,
    root: Path,
    assistant: Assistant,
    names: Sequence[str],
    recognise: bool,
    foreign: int,
    is_hinted: bool = False,
) -> Iterator[tuple[ScoreRow, NDArray[np.bool_]]]:
    """Ask an image for targets; yields a row and the mask that was reported, bool (row, column), for each.

    As in use, a target that the weights do not know in this modality is not looked for.

    Args:
        triplet: the image and what is known of it.
        root: folder that the row's path is relative to.
        names: of the targets that are scored.
        recognise: ask for nothing, and score what was recognised.
        foreign: so many targets of other modalities are asked as well; which, the image's name alone decides.
        is_hinted: ask for what is there with a simulated user's click and box as well.
    Raises:
        InputError: a file can't be read, or a mask is not of its image's shape.
    """
    image = image_of(triplet)
    targets = [assistant.own_targets.get(name) or target_named(name) for name in names]
    if recognise:
        found = _by_name(assistant.find(image).findings)
    else:
        known = [target for target in targets if assistant.unknown_because(target, image.modality) is None]
        found = _by_name(assistant.find_targets(image, known))
    for target in targets:
        truth = triplet.read_mask(target.name)
        if truth.shape != image.grid.shape[1:]:
            raise InputError(
                f"{triplet.image}: the mask of {target.name} is {truth.shape[0]} x {truth.shape[1]}, the image "
                f"{image.grid.shape[1]} x {image.grid.shape[2]}; one of them belongs to another"
            )
        row, mask = _scored(triplet, root, target, found.get(target.name), truth, is_foreign=False)
        if is_hinted and row.present:
            row = _with_hints(row, assistant, image, target, truth)
        yield row, mask
    strange = foreign_targets(assistant, triplet, foreign)
    if strange:
        found = _by_name(assistant.find(image, [target.name for target in strange]).findings)
        for target in strange:
            nothing = np.zeros(image.grid.shape[1:], dtype=bool)
            yield _scored(triplet, root, target, found.get(target.name), nothing, is_foreign=True)


def foreign_targets(assistant: Assistant, triplet: Triplet, count: int) -> list[Target]:
    """Targets that the weights know, but the vocabulary does not list for the image's modality."""
    trained = set(assistant.trained_targets)
    others = [
        target
        for target in load_targets()
        if (not trained or target.name in trained) and triplet.modality not in target.modalities
    ]
    generator = np.random.default_rng(zlib.crc32(triplet.image.name.encode()))
    chosen = generator.choice(len(others), min(count, len(others)), replace=False)
    return [others[index] for index in sorted(chosen)]


def _with_hints(
    row: ScoreRow, assistant: Assistant, image: Image, target: Target, truth: NDArray[np.bool_]
) -> ScoreRow:
    dice = []
    for hint in (click_inside(truth), box_around(truth, f"{row.image} {row.target}")):
        (finding,) = assistant.find_targets(image, [target], {0: hint})
        mask = np.zeros_like(truth) if finding.mask is None else finding.mask[0]
        dice.append(score_mask(mask, truth).dice)
    return replace(row, click_dice=dice[0], box_dice=dice[1])


def _by_name(findings: Sequence[Finding]) -> dict[str, Finding]:
    return {finding.target.name: finding for finding in findings if finding.target is not None}


def _scored(
    triplet: Triplet, root: Path, target: Target, finding: Finding | None, truth: NDArray[np.bool_], is_foreign: bool
) -> tuple[ScoreRow, NDArray[np.bool_]]:
    mask = np.zeros_like(truth) if finding is None or finding.mask is None else finding.mask[0]
    score = score_mask(mask, truth)
    boxes = count_boxes(() if finding is None else finding.boxes, find_boxes(truth[None]))
    presence = 0.0 if finding is None else finding.presence
    row = ScoreRow(
        image=str(triplet.image.relative_to(root)),
        modality=triplet.modality.value,
        dataset=triplet.dataset,
        target=target.name,
        dice=score.dice,
        iou=score.iou,
        nsd=score.nsd,
        presence=float(mask.any()) if presence is None else presence,
        present=bool(truth.any()),
        found=bool(mask.any()),
        boxes_found=boxes.found,
        boxes_true=boxes.true,
        boxes_matched=boxes.matched,
        status="" if finding is None else finding.status.value,
        patient=triplet.patient,
        foreign=is_foreign,
    )
    return row, mask
