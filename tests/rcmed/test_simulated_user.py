"""A simulated user's click and box, and what a table says of them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from rcmed.assistant import Assistant
from rcmed.data.triplets import read_index
from rcmed.evaluation.rows import ScoreRow
from rcmed.evaluation.scoring import score_triplet
from rcmed.evaluation.simulated_user import BOX_SLACK, box_around, click_inside
from rcmed.evaluation.tables import summarise
from rcmed.findings import ModelIdentity
from rcmed.training.settings import TrainingSettings
from rcmed.training.trainer import Trainer

masks = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=40)).filter(np.any)


def test_the_click_is_in_the_middle_of_the_largest_part() -> None:
    mask = np.zeros((40, 60), dtype=bool)
    mask[2:5, 2:5] = True
    mask[10:31, 20:51] = True
    ((row, column),) = click_inside(mask).inside
    assert row == 20 and 30 <= column <= 40


@given(masks)
def test_a_click_is_inside(mask: np.ndarray) -> None:
    ((row, column),) = click_inside(mask).inside
    assert mask[int(row), int(column)]


@given(masks, st.text(max_size=5))
def test_a_box_holds_the_mask_with_little_slack(mask: np.ndarray, seed: str) -> None:
    box = box_around(mask, seed).box
    assert box is not None and box == box_around(mask, seed).box
    covered = np.argwhere(mask)
    first, last = covered.min(0), covered.max(0)
    slack = BOX_SLACK * (last - first + 1)
    low, high = np.array(box[:2]), np.array(box[2:])
    assert (low <= first).all() and (high >= last).all()
    assert (low >= np.maximum(first - slack, 0)).all()
    assert (high <= np.minimum(last + slack, np.array(mask.shape) - 1)).all()


def test_an_image_is_asked_with_hints_where_the_target_is_there(tiny_index: TrainingSettings) -> None:
    trainer = Trainer(tiny_index.model_copy(update={"hint_rate": 0.5}))
    trainer.train_step()
    assistant = Assistant(trainer.model.eval(), trainer.processor, ModelIdentity("in training", "", ""))
    for triplet in read_index(tiny_index.index, tiny_index.root)[:4]:
        names = sorted({*triplet.labelled, *triplet.masks})
        scored = [
            score_triplet(triplet, tiny_index.root, assistant, names, False, 0, hinted) for hinted in (True, False)
        ]
        for (row, mask), (plain, without) in zip(*scored, strict=True):
            assert np.array_equal(mask, without), "hints are asked for apart"
            assert plain.click_dice is None and plain.box_dice is None
            given = (row.click_dice, row.box_dice)
            assert (
                given == (None, None) if not row.present else all(0 <= dice <= 1 for dice in given if dice is not None)
            )
            assert row.present == (None not in given)


def test_the_summary_says_what_hints_give() -> None:
    asked = ScoreRow("a.png", "ct", "made", "liver", 0.8, 0.7, 0.9, 0.9, True, click_dice=0.85, box_dice=0.95)
    absent = ScoreRow("b.png", "ct", "made", "liver", 0.0, 0.0, 0.0, 0.1, False)
    summary = summarise([asked, absent])
    assert summary.splitlines()[0].endswith("| Dice, 95 % | Dice with one click | Dice with a box |")
    assert summary.splitlines()[2].endswith("| 0.850 | 0.950 |")
    assert "Mean Dice with one click over the same pairs: 0.850" in summary
    assert "with a box" not in summarise([absent])
