"""How sure a figure is: bootstrap intervals over patients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
SEED = 20
_CONFIDENCE = 0.95

_AT_ONCE = 50

Combine = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""From sums over the drawn rows (resample, column) to the statistic of each resample (resample,); nan: undefined."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval.

    Attributes:
        value: of all rows; nan where it is not defined.
        low, high: 2.5th and 97.5th percentile over the resamples; nan where there is one patient only.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """As tables show it: "0.912 (0.87-0.95)", or "-"."""
        if np.isnan(self.value):
            return "-"
        if np.isnan(self.low):
            return f"{self.value:.3f}"
        return f"{self.value:.3f} ({self.low:.2f}-{self.high:.2f})"


def estimate(patients: Sequence[str], columns: NDArray[np.float64], combine: Combine) -> Estimate:
    """A statistic of sums with its percentile bootstrap interval; the same rows always give the same interval.

    Patients are drawn, not rows: images and targets of one patient are not independent.

    Args:
        patients: of each row.
        columns: (row, column), what is summed.
        combine: makes the statistic of the sums.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    nothing = float("nan")
    if not patients:
        return Estimate(nothing, nothing, nothing)
    units, of_row = np.unique(np.asarray(patients), return_inverse=True)
    value = float(combine(columns.sum(axis=0, keepdims=True))[0])
    if len(units) < 2 or np.isnan(value):
        return Estimate(value, nothing, nothing)
    sums = np.zeros((len(units), columns.shape[1]))
    np.add.at(sums, of_row, columns)
    generator = np.random.default_rng(SEED)
    share = np.full(len(units), 1 / len(units))
    # In portions: a draw takes as many numbers as there are patients.
    drawn = np.concatenate(
        [
            combine(generator.multinomial(len(units), share, size=_AT_ONCE).astype(np.float64) @ sums)
            for _ in range(RESAMPLES // _AT_ONCE)
        ]
    )
    low, high = np.nanquantile(drawn, [(1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2])
    return Estimate(value, float(low), float(high))


def mean_with_interval(patients: Sequence[str], values: NDArray[np.float64]) -> Estimate:
    """The mean of values (row,)."""
    columns = np.stack([values, np.ones(len(values))], axis=1)
    return estimate(patients, columns, lambda sums: sums[:, 0] / sums[:, 1])
