"""Thresholds of presence follow a rule over rows of held-out patients."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rcmed.evaluation.rows import ScoreRow
from rcmed.training.stages.thresholds import MOST_FALSE, MOST_MISSED, choose_thresholds


def rows(present: list[float], absent: list[float]) -> list[ScoreRow]:
    said = [(value, True) for value in present] + [(value, False) for value in absent]
    return [ScoreRow(f"{n}.png", "ct", "made", "liver", 0.5, 0.5, 0.5, p, there) for n, (p, there) in enumerate(said)]


def test_a_twentieth_of_the_absent_may_be_found() -> None:
    absent = [0.1] * 90 + [0.7] * 5 + [0.9] * 5
    assert choose_thresholds(rows([0.95] * 100, absent)) == pytest.approx((0.35, 0.71))
    assert choose_thresholds(rows([0.95] * 97 + [0.1] * 3, absent)) == pytest.approx((0.1, 0.71))


def test_what_is_told_apart_well_keeps_room_for_doubt() -> None:
    assert choose_thresholds(rows([0.99] * 50, [0.01] * 50)) == pytest.approx((0.25, 0.5))


def test_few_rows_tell_nothing() -> None:
    assert choose_thresholds(rows([0.9] * 39, [0.1] * 400)) is None
    assert choose_thresholds(rows([0.9] * 400, [0.1] * 39)) is None


presences = st.lists(st.floats(0, 1), min_size=40, max_size=60)


@given(presences, presences)
def test_the_rule_holds_whatever_was_said(present: list[float], absent: list[float]) -> None:
    chosen = choose_thresholds(rows(present, absent))
    assert chosen is not None
    absent_below, found_from = chosen
    # At 1.0 nothing is left to raise: what is said to be certain is found.
    assert found_from == 1.0 or np.mean(np.array(absent) >= found_from) <= MOST_FALSE
    assert np.mean(np.array(present) < absent_below) <= MOST_MISSED
    assert 0 <= absent_below <= found_from / 2
