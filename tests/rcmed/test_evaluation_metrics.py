"""Scores against values worked out by hand."""

import numpy as np
import pytest

from rcmed.evaluation.metrics import presence_auroc, score_mask
from rcmed.evaluation.tables import ScoreRow, summarise


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
