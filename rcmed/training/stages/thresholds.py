"""Where presence becomes a word, by a rule over patients whom the weights never saw."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rcmed.evaluation.rows import ScoreRow

MOST_FALSE = 0.05
MOST_MISSED = 0.02
# Found is more likely than not; below half of what is found there is room for doubt.
_LEAST_FOUND_FROM = 0.5
_FEWEST_OF_A_KIND = 40


def choose_thresholds(rows: Sequence[ScoreRow]) -> tuple[float, float] | None:
    """`presence_thresholds` (absent below, found from) for the weights that gave these rows.

    `found from` is the lowest, in hundredths and at least 0.5, at which at most `MOST_FALSE` of the absent targets are
    called found; `absent below` the highest, at most half of it, at which at most `MOST_MISSED` of the present ones
    are called absent.

    Args:
        rows: of held-out patients, each asked for all that was labelled.
    Returns:
        None where fewer than forty rows are present, or absent: they tell nothing.
    """
    absent = np.array([row.presence for row in rows if not row.present and not row.foreign])
    present = np.array([row.presence for row in rows if row.present])
    if min(len(absent), len(present)) < _FEWEST_OF_A_KIND:
        return None
    hundredths = np.arange(101) / 100
    is_low_enough = (absent[:, None] >= hundredths).mean(0) <= MOST_FALSE
    found_from = max(float(hundredths[is_low_enough].min(initial=1.0)), _LEAST_FOUND_FROM)
    is_kept = (present[:, None] < hundredths).mean(0) <= MOST_MISSED
    absent_below = min(float(hundredths[is_kept].max()), math.floor(found_from * 50) / 100)
    return absent_below, found_from
