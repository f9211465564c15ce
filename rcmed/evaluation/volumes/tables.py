"""Tables of an evaluation of volumes: each target in each volume, and the means over patients not trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from rcmed.evaluation.intervals import mean_with_interval
from rcmed.evaluation.tables import table_head
from rcmed.evaluation.volumes.rows import VolumeRow

_NOTHING = float("nan")
COLUMNS = (
    "modality",
    "data set",
    "volume",
    "target",
    "said",
    "presence",
    "Dice",
    "surface, mm",
    "HD95, mm",
    "volume, ml",
    "true, ml",
    "parts (true)",
    "neighbours (true)",
    "trained on",
)
_MEASURES: Sequence[tuple[str, Callable[[VolumeRow], float]]] = (
    ("Dice", lambda row: row.dice),
    ("surface distance, mm", lambda row: row.score.surface_mm),
    ("Hausdorff distance 95 %, mm", lambda row: row.score.hausdorff95_mm),
    ("volume error, ml", lambda row: abs(row.score.found_ml - row.score.true_ml)),
    ("volume found / true", lambda row: row.volume_ratio if row.found else _NOTHING),
    ("parts", lambda row: row.score.parts if row.found else _NOTHING),
    ("parts in the truth", lambda row: row.score.true_parts),
    ("agreement of neighbouring slices", lambda row: row.score.agreement),
    ("agreement in the truth", lambda row: row.score.true_agreement),
)


def summarise_volumes(
    rows: Sequence[VolumeRow], unknown: Mapping[str, int], are_patients_known: bool, with_trained: bool = False
) -> str:
    """Markdown: every target of every volume, then means and medians.

    Intervals are of 95 %, by bootstrap over patients. A target that is there and was not found counts with Dice 0;
    distances, ratios and parts are of those that were found.

    Args:
        rows: of all volumes.
        unknown: labels that no target has, with the number of volumes that they were left out of.
        are_patients_known: whether somebody told which patients were trained on.
        with_trained: let patients that were trained on count in the means.
    """
    lines = table_head(COLUMNS)
    for row in sorted(rows, key=lambda row: (row.modality, row.dataset, row.image, row.target)):
        lines.append(f"| {' | '.join(_cells(row))} |")
    counted = [row for row in rows if with_trained or not row.is_trained_on]
    left_out = len({row.image for row in rows}) - len({row.image for row in counted})
    if not are_patients_known:
        lines += ["", "Nobody told which patients the weights were trained on (`--trained`): all count."]
    elif left_out:
        lines += ["", f"{left_out} volumes of patients whose slices were trained on are left out of what follows."]
    if unknown:
        names = ", ".join(f"{name} ({count} volumes)" for name, count in sorted(unknown.items()))
        lines += ["", f"Left out, for no target has the name: {names}"]
    asked = [row for row in counted if row.status and row.present]
    not_asked = [row for row in counted if not row.status]
    if not_asked:
        lines += ["", f"Not looked for, as the weights do not know them there: {len(not_asked)}; they do not count."]
    lines += ["", "All targets that are there:", "", *table_head(["", "targets", "mean, 95 %", "median"])]
    for title, measure in _MEASURES:
        values = [(row.patient, measure(row)) for row in asked]
        values = [(patient, value) for patient, value in values if np.isfinite(value)]
        numbers = np.array([value for _, value in values], dtype=np.float64)
        mean = mean_with_interval([patient for patient, _ in values], numbers)
        median = f"{np.median(numbers):.3f}" if len(numbers) else "-"
        lines.append(f"| {title} | {len(numbers)} | {mean} | {median} |")
    lines += ["", *_presence_lines(asked)]
    seconds = {row.image: row.seconds for row in counted}
    if seconds:
        lines += [
            "",
            f"Seconds a volume: median {np.median(list(seconds.values())):.1f}, most {max(seconds.values()):.1f}",
        ]
    return "\n".join(lines) + "\n"


def _presence_lines(asked: Sequence[VolumeRow]) -> list[str]:
    counts = {status: sum(row.status == status for row in asked) for status in sorted({row.status for row in asked})}
    said = ", ".join(f"{count} {status}" for status, count in counts.items()) or "nothing was asked"
    missed = [row for row in asked if row.status == "absent" and row.score.slices_share >= 0.2]
    lines = [f"Of targets that are there: {said}."]
    if missed:
        names = ", ".join(f"{row.target} ({row.image})" for row in missed)
        lines.append(f"In at least a fifth of the slices, and called absent: {names}")
    return lines


def _cells(row: VolumeRow) -> list[str]:
    def shown(value: float, digits: int) -> str:
        return f"{value:.{digits}f}" if np.isfinite(value) else "-"

    return [
        row.modality,
        row.dataset,
        row.image,
        row.target,
        row.status or "not asked",
        shown(row.presence, 2) if row.status else "-",
        shown(row.dice, 3),
        shown(row.score.surface_mm, 1),
        shown(row.score.hausdorff95_mm, 1),
        shown(row.score.found_ml, 1),
        shown(row.score.true_ml, 1),
        f"{row.score.parts} ({row.score.true_parts})",
        f"{shown(row.score.agreement, 2)} ({shown(row.score.true_agreement, 2)})",
        "yes" if row.is_trained_on else "",
    ]
