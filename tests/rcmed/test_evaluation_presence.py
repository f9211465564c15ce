"""Presence in numbers: false positives, calibration, and their intervals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rcmed.evaluation.intervals import mean_with_interval
from rcmed.evaluation.presence import (
    calibration_error,
    false_positive_rate,
    presence_table,
    reported_though_absent,
)
from rcmed.evaluation.rows import ScoreRow
from rcmed.evaluation.tables import summarise


def row(presence: float, present: bool, status: str = "", patient: str = "", target: str = "liver") -> ScoreRow:
    nothing = float("nan")
    dice = 0.5 if present else nothing
    return ScoreRow(
        f"{patient}-{presence}.png",
        "ct",
        "made",
        target,
        dice,
        dice,
        dice,
        presence,
        present,
        status in ("found", "uncertain"),
        status=status,
        patient=patient,
    )


def test_false_positives_are_absent_targets_said_to_be_found() -> None:
    rows = [
        row(0.9, False, "found", "a"),
        row(0.5, False, "uncertain", "b"),
        row(0.1, False, "absent", "c"),
        row(0.2, False, "absent", "d"),
        row(0.9, True, "found", "e"),
    ]
    assert false_positive_rate(rows).value == pytest.approx(0.25)
    assert reported_though_absent(rows).value == pytest.approx(0.5)
    assert np.isnan(false_positive_rate(rows[-1:]).value)
    assert str(false_positive_rate(rows[-1:])) == "-"


def test_calibration_by_hand() -> None:
    # 0.9 is said four times and true three times, 0.3 is said once and never true.
    rows = [row(0.9, True), row(0.9, True), row(0.9, True), row(0.9, False), row(0.3, False)]
    assert calibration_error(rows).value == pytest.approx((4 * 0.15 + 1 * 0.3) / 5)
    assert calibration_error([row(1.0, True), row(0.0, False)]).value == pytest.approx(0)


# Not on the border of two bins, where float32 decides.
PROBABILITIES = st.integers(0, 199).map(lambda number: (number + 0.5) / 200)


@given(st.lists(st.tuples(PROBABILITIES, st.booleans()), min_size=1, max_size=40))
def test_calibration_agrees_with_monai(pairs: list[tuple[float, bool]]) -> None:
    calibration = pytest.importorskip("monai.metrics.calibration", reason="an older MONAI without calibration")
    said = torch.tensor([[[p for p, _ in pairs]]], dtype=torch.float64)
    true = torch.tensor([[[float(t) for _, t in pairs]]], dtype=torch.float64)
    mean_said, mean_true, counts = calibration.calibration_binning(said, true, num_bins=10)
    expected = float((torch.nan_to_num((mean_said - mean_true).abs()) * counts).sum() / counts.sum())
    assert calibration_error([row(p, t) for p, t in pairs]).value == pytest.approx(expected, abs=1e-6)


@pytest.mark.slow
def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    generator = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        values = generator.normal(3.0, 1.0, 60)
        found = mean_with_interval([str(i) for i in range(60)], values)
        covered += found.low <= 3.0 <= found.high
    assert 180 <= covered <= 199


def test_rows_of_one_patient_are_drawn_together() -> None:
    values = np.repeat(np.arange(10.0), 50)
    of_patients = mean_with_interval([str(int(v)) for v in values], values)
    of_images = mean_with_interval([str(i) for i in range(500)], values)
    assert of_patients.value == of_images.value
    assert of_patients.high - of_patients.low > 3 * (of_images.high - of_images.low)


def test_one_patient_has_no_interval_and_the_same_rows_the_same_one() -> None:
    assert np.isnan(mean_with_interval(["a", "a"], np.array([1.0, 2.0])).low)
    rows = [row(p / 20, p % 3 > 0, "found", str(p)) for p in range(20)]
    assert presence_table(rows) == presence_table(rows)


def test_the_summary_tells_presence_by_modality_data_set_and_target() -> None:
    rows = [
        row(0.9, False, "found", "a"),
        row(0.1, False, "absent", "b"),
        row(0.8, True, "found", "c", "spleen"),
        row(0.8, True, "found", "d", "spleen"),
    ]
    text = summarise(rows)
    starts = ["| everything | 4 | 2 | 0.500 (", "| modality ct | 4 | 2 |", "| data set made | 4 | 2 |"]
    for start in [*starts, "| target liver | 2 | 2 | 0.500 ("]:
        assert sum(line.startswith(start) for line in text.splitlines()) == 1
    assert "| target spleen" not in text, "nothing is known of absent spleens"
    assert "| ct | made | spleen | 2 | 2 | 0.500 | 0.500 | 0.500 | 0.500-0.500 |" in text
    assert "Presence over" not in summarise(rows[2:])
