"""What is held out of training is scored as `rcmed evaluate` scores, and its table and the curve can be read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rcmed.assistant import Assistant
from rcmed.data.triplets import read_index
from rcmed.errors import ConfigurationError
from rcmed.evaluation.scoring import score_triplet
from rcmed.training.curve import STEPS_PER_POINT, Curve
from rcmed.training.settings import TrainingSettings
from rcmed.training.trainer import Trainer
from rcmed.training.validation import hold_out


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    board = EventAccumulator(str(folder))
    board.Reload()
    return {tag: [(each.step, each.value) for each in board.Scalars(tag)] for tag in board.Tags()["scalars"]}


def test_a_patient_is_on_one_side(tiny_index: TrainingSettings) -> None:
    (first, *_) = read_index(tiny_index.index, tiny_index.root)
    triplets = [replace(first, patient=f"patient {number // 3}") for number in range(300)]
    training, held_out = hold_out(triplets, 0.2)
    patients = [{each.patient for each in part} for part in (training, held_out)]
    assert not patients[0] & patients[1] and len(patients[0] | patients[1]) == 100
    assert 10 <= len(patients[1]) <= 30
    assert hold_out(triplets[:150], 0.2)[1] == held_out[: len(hold_out(triplets[:150], 0.2)[1])], (
        "others change nothing"
    )
    assert hold_out(triplets, 0.0) == (triplets, [])
    with pytest.raises(ConfigurationError, match="nobody to (train|validate) on"):
        hold_out(triplets[:3], 0.2)


@pytest.mark.slow
def test_the_table_is_what_an_evaluation_says(tiny_index: TrainingSettings) -> None:
    settings = tiny_index.model_copy(update={"validation_share": 0.5, "validate_every": 3})
    trainer = Trainer(settings)
    folder = trainer.run(show_progress=False)
    triplets = read_index(settings.index, settings.root)
    training, held_out = hold_out(triplets, 0.5)
    assert trainer.held_out == held_out and len(training) + len(held_out) == len(triplets)

    assistant = Assistant.from_pretrained(folder, "cpu")
    dice: dict[str, list[float]] = {}
    for triplet in held_out:
        names = sorted({*triplet.labelled, *triplet.masks})
        for row, _ in score_triplet(triplet, settings.root, assistant, names, recognise=False, foreign=0):
            if row.present:
                dice.setdefault(row.target, []).append(row.dice)
    lines = [json.loads(line) for line in (settings.output / "validation.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [3, 4]
    assert lines[-1]["dice"] == pytest.approx({name: np.mean(values) for name, values in dice.items()}, abs=1e-3)
    table = (settings.output / "validation.md").read_text()
    assert "after step 4" in table and all(f"| {name} |" in table for name in dice)
    board = scalars(settings.output / "tensorboard")
    for name in dice:
        assert [step for step, _ in board[f"validation/dice/{name}"]] == [3, 4]

    rarely = settings.model_copy(update={"output": settings.output / "rarely", "validate_every": 100})
    other = Trainer(rarely)
    other.run(show_progress=False)
    assert all(torch.equal(other.averaged[name], value) for name, value in trainer.averaged.items()), "it only looks"


def test_the_curve_goes_to_tensorboard_too(tmp_path: Path) -> None:
    with Curve(tmp_path) as curve:
        for step in range(1, STEPS_PER_POINT + 1):
            curve.add(step, {"loss": step / 10, "dice": 0.5}, learning_rate=0.25, images=4)
    (line,) = [json.loads(line) for line in (tmp_path / "curve.jsonl").read_text().splitlines()]
    assert line["step"] == 50 and line["loss"] == pytest.approx(2.55) and line["images_per_second"] > 0
    board = scalars(tmp_path / "tensorboard")
    assert board["training/loss"] == [(50, pytest.approx(2.55))]
    assert board["training/learning_rate"] == [(50, 0.25)]
    assert board["training/images_per_second"][0][1] == pytest.approx(line["images_per_second"])


def test_only_the_main_process_writes(tmp_path: Path) -> None:
    with Curve(tmp_path, is_kept=False) as curve:
        curve.add(STEPS_PER_POINT, {"loss": 1.0}, learning_rate=0.1, images=4)
        curve.add_validation(STEPS_PER_POINT, {"liver": 0.5})
    assert not list(tmp_path.iterdir())
