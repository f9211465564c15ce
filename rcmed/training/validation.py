"""How good a model in training is on patients whom it never sees, by the scores of `rcmed evaluate`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from rcmed.assistant import Assistant
from rcmed.data.collected import patient_bucket
from rcmed.data.triplets import Triplet
from rcmed.errors import ConfigurationError
from rcmed.evaluation.rows import ScoreRow
from rcmed.evaluation.scoring import score_triplet
from rcmed.evaluation.tables import summarise
from rcmed.findings import ModelIdentity
from rcmed.model.modeling import RCMedModel
from rcmed.model.processor import RCMedProcessor
from rcmed.training.processes import Processes


def hold_out(triplets: Sequence[Triplet], share: float) -> tuple[list[Triplet], list[Triplet]]:
    """Part patients to train on from those to validate on, by their names alone: the same ones in every run.

    Args:
        triplets: of the training index; its test split stays apart.
        share: of the patients that is held out, about; 0: none.
    Raises:
        ConfigurationError: nobody is left on one of the sides.
    """
    if not share:
        return list(triplets), []
    parts: dict[bool, list[Triplet]] = {True: [], False: []}
    for triplet in triplets:
        parts[patient_bucket(triplet.patient) < 100 * share].append(triplet)
    if not parts[True] or not parts[False]:
        patients, purpose = len({triplet.patient for triplet in triplets}), "train" if parts[True] else "validate"
        raise ConfigurationError(
            f"validation_share: {share} of {patients} patients leaves nobody to {purpose} on; use another share, or 0"
        )
    return parts[False], parts[True]


def score_held_out(
    model: RCMedModel, processor: RCMedProcessor, held_out: Sequence[Triplet], root: Path, processes: Processes
) -> list[ScoreRow]:
    """Ask every image for all that was labelled in it, as in use; each process its share, all get all rows.

    Args:
        model: on the process's device.
        processor: of the model.
        held_out: what to ask.
        root: folder that the rows' paths are relative to.
        processes: of the run.
    """
    assistant = Assistant(model.eval(), processor, ModelIdentity("in training", "", ""))
    rows = []
    for index in processes.share(len(held_out)):
        triplet = held_out[index]
        names = sorted({*triplet.labelled, *triplet.masks})
        scored = score_triplet(triplet, root, assistant, names, recognise=False, foreign=0)
        rows += [row for row, _ in scored]
    return processes.gather(rows)


def dice_by_target(rows: Sequence[ScoreRow]) -> Mapping[str, float]:
    """Mean Dice of each target over the images that show it."""
    dice: dict[str, list[float]] = {}
    for row in rows:
        if row.present:
            dice.setdefault(row.target, []).append(row.dice)
    return {name: round(float(np.mean(values)), 4) for name, values in sorted(dice.items())}


def write_validation(rows: Sequence[ScoreRow], step: int, folder: Path) -> None:
    """Write the table of a step as `validation.md`, and add a line with the Dice per target to `validation.jsonl`."""
    dice = dice_by_target(rows)
    mean = round(float(np.mean(list(dice.values()))), 4) if dice else None
    images, patients = len({row.image for row in rows}), len({row.unit for row in rows})
    title = f"# Held out of training, after step {step}: {images} images of {patients} patients"
    (folder / "validation.md").write_text(f"{title}\n\n{summarise(rows)}")
    with (folder / "validation.jsonl").open("a") as lines:
        lines.write(json.dumps({"step": step, "mean_dice": mean, "dice": dice}) + "\n")
