"""Whether presence can be trusted: false positives, calibration, and how well it tells present from absent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from rcmed.evaluation.intervals import Estimate, estimate, mean_with_interval
from rcmed.evaluation.metrics import presence_auroc
from rcmed.evaluation.rows import ScoreRow
from rcmed.findings import FindingStatus

BINS = 10


def false_positive_rate(rows: Sequence[ScoreRow]) -> Estimate:
    """Share of the absent targets that are said to be found, at the thresholds that travel with the weights."""
    return _share_of_absent(rows, [row.status == FindingStatus.FOUND for row in rows if not row.present])


def reported_though_absent(rows: Sequence[ScoreRow]) -> Estimate:
    """Share of the absent targets that get a region at all, be it as found or as uncertain."""
    return _share_of_absent(rows, [row.found for row in rows if not row.present])


def _share_of_absent(rows: Sequence[ScoreRow], reported: Sequence[bool]) -> Estimate:
    patients = [row.unit for row in rows if not row.present]
    return mean_with_interval(patients, np.array(reported, dtype=np.float64))


def calibration_error(rows: Sequence[ScoreRow]) -> Estimate:
    """Expected calibration error of presence over ten equal bins: how far a said probability is from the true share.

    Source: Guo et al., On Calibration of Modern Neural Networks, 2017, equation 3, for one probability.
    """
    said = np.array([row.presence for row in rows], dtype=np.float64)
    true = np.array([row.present for row in rows], dtype=np.float64)
    bins = np.minimum((said * BINS).astype(int), BINS - 1)
    # Of a bin, |mean said - share true| times its weight is |sum of (said - true)|.
    members = (bins[:, None] == np.arange(BINS)) * (said - true)[:, None]
    columns = np.concatenate([members, np.ones((len(rows), 1))], axis=1)
    return estimate(
        [row.unit for row in rows], columns, lambda sums: np.abs(sums[:, :BINS]).sum(axis=1) / sums[:, BINS]
    )


def presence_table(rows: Sequence[ScoreRow]) -> list[str]:
    """Markdown lines: presence over all rows, per modality, data set and target; none where no target is absent.

    Data sets and targets without an absent row are left out: of them, nothing false can be told.
    """
    if all(row.present for row in rows):
        return []
    lines = [
        "| over | pairs | absent | false positives | reported though absent | calibration error | AUROC |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        _line("everything", rows),
    ]
    if any(row.foreign for row in rows):
        lines += [
            _line("targets labelled in the image", [row for row in rows if not row.foreign]),
            _line("present, and targets of other modalities", [row for row in rows if row.foreign or row.present]),
        ]
    rows = [row for row in rows if not row.foreign]
    for kind in ("modality", "dataset", "target"):
        groups: dict[str, list[ScoreRow]] = defaultdict(list)
        for row in rows:
            groups[getattr(row, kind)].append(row)
        word = "data set" if kind == "dataset" else kind
        lines += [
            _line(f"{word} {name}", members)
            for name, members in sorted(groups.items())
            if not all(row.present for row in members)
        ]
    return lines


def _line(over: str, rows: Sequence[ScoreRow]) -> str:
    absent = sum(not row.present for row in rows)
    scores = np.array([row.presence for row in rows], dtype=np.float64)
    auroc = presence_auroc(scores, np.array([row.present for row in rows], dtype=bool))
    cells = [
        over,
        str(len(rows)),
        str(absent),
        str(false_positive_rate(rows)),
        str(reported_though_absent(rows)),
        str(calibration_error(rows)),
        "-" if np.isnan(auroc) else f"{auroc:.3f}",
    ]
    return f"| {' | '.join(cells)} |"
