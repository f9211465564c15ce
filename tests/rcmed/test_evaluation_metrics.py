"""Scores against values worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rcmed.evaluation.metrics import presence_auroc, score_mask
from rcmed.evaluation.recognition import BoxCounts, count_boxes, recognition_table
from rcmed.evaluation.rows import ScoreRow
from rcmed.evaluation.tables import summarise
from rcmed.findings import Box


def test_half_an_overlap() -> None:
    truth = np.zeros((20, 20), dtype=bool)
    truth[:, :10] = True
    found = np.zeros_like(truth)
    found[:, 5:15] = True
    score = score_mask(found, truth)
    assert score.dice == pytest.approx(0.5)
    assert score.iou == pytest.approx(1 / 3)
    assert score_mask(truth, truth).nsd == pytest.approx(1.0)
    assert score_mask(np.zeros_like(truth), truth).dice == 0.0
    assert np.isnan(score_mask(found, np.zeros_like(truth)).dice)


def test_auroc_of_presence() -> None:
    scores = np.array([0.9, 0.8, 0.3, 0.2])
    assert presence_auroc(scores, np.array([True, True, False, False])) == pytest.approx(1.0)
    assert presence_auroc(scores, np.array([True, False, True, False])) == pytest.approx(0.75)


def test_absent_targets_do_not_count_into_dice() -> None:
    rows = [
        ScoreRow("a.png", "ct", "made", "liver", 0.8, 0.7, 0.9, 0.9, True),
        ScoreRow("b.png", "ct", "made", "liver", float("nan"), float("nan"), float("nan"), 0.1, False),
    ]
    assert "| ct | made | liver | 2 | 1 | 0.800 | 0.700 | 0.900 |" in summarise(rows)


def box(row: int, column: int, height: int, width: int) -> Box:
    return Box((0, row, column), (0, row + height - 1, column + width - 1))


def test_each_box_is_matched_once() -> None:
    true = [box(0, 0, 10, 10), box(20, 20, 4, 4)]
    assert count_boxes([box(0, 0, 10, 10), box(1, 1, 10, 10)], true) == BoxCounts(2, 2, 1)
    assert count_boxes([box(0, 0, 10, 5)], true) == BoxCounts(1, 2, 1), "half of it is an IoU of 0.5"
    assert count_boxes([box(0, 0, 10, 4)], true) == BoxCounts(1, 2, 0)
    assert count_boxes([], true) == BoxCounts(0, 2, 0)


@given(st.lists(st.tuples(*[st.integers(0, 30)] * 2, *[st.integers(1, 12)] * 2), max_size=6))
def test_boxes_match_themselves_whatever_their_order(numbers: list[tuple[int, int, int, int]]) -> None:
    boxes = [box(*each) for each in numbers]
    assert count_boxes(boxes, boxes[::-1]).matched == len(boxes)


def recognised(modality: str, present: bool, found: bool, boxes: BoxCounts) -> ScoreRow:
    scores = (0.0, 0.0, 0.0, 0.5)
    return ScoreRow(
        "image", modality, "data", "target", *scores, present, found, boxes.found, boxes.true, boxes.matched
    )


def test_recognition_is_counted_by_modality() -> None:
    rows = [
        recognised("ct", True, True, BoxCounts(1, 1, 1)),
        recognised("ct", True, False, BoxCounts(0, 2, 0)),
        recognised("ct", False, True, BoxCounts(1, 0, 0)),
        recognised("mr", False, False, BoxCounts(0, 0, 0)),
    ]
    table = recognition_table(rows)
    assert table[2:] == [
        "| ct | 3 | 2 | 2 | 0.500 | 0.500 | 0.400 |",
        "| mr | 1 | 0 | 0 | - | - | - |",
        "| all | 4 | 2 | 2 | 0.500 | 0.500 | 0.400 |",
    ]
