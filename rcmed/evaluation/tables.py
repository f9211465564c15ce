"""Tables of an evaluation: one row per image and target in CSV, means in Markdown."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from operator import attrgetter
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

import numpy as np

from rcmed.evaluation.intervals import mean_with_interval
from rcmed.evaluation.metrics import presence_auroc
from rcmed.evaluation.presence import presence_table
from rcmed.evaluation.recognition import recognition_table
from rcmed.evaluation.rows import ScoreRow

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_Row = TypeVar("_Row", bound="DataclassInstance")
# Of a row, and what a table calls it.
HINTED = MappingProxyType({"click_dice": "Dice with one click", "box_dice": "Dice with a box"})


def table_head(columns: Sequence[str]) -> list[str]:
    """The first two lines of a Markdown table."""
    return [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]


def write_csv(rows: Sequence[_Row], path: Path, kind: type[_Row]) -> None:
    """Write `metrics.csv`: a column for each field of the dataclass `kind`, in their order.

    A field that is a dataclass itself has a column for each of its own.
    """
    columns = list(_columns(kind))
    with path.open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow([column.rpartition(".")[2] for column in columns])
        writer.writerows([attrgetter(column)(row) for column in columns] for row in rows)


def _columns(kind: Any) -> Iterator[str]:
    types = get_type_hints(kind)
    for field in fields(kind):
        if is_dataclass(types[field.name]):
            yield from (f"{field.name}.{inner}" for inner in _columns(types[field.name]))
        else:
            yield field.name


def summarise(rows: Sequence[ScoreRow], unknown: Mapping[str, int] = MappingProxyType({})) -> str:
    """Markdown tables: masks per (modality, data set, target) and over all pairs, presence, recognition per modality.

    Intervals are of 95 %, by bootstrap over patients.

    Args:
        rows: of all images.
        unknown: names that no target has, with the number of images that they were left out of.
    """
    groups: dict[tuple[str, str, str], list[ScoreRow]] = defaultdict(list)
    everything = rows
    rows = [row for row in rows if not row.foreign]
    for row in rows:
        groups[row.modality, row.dataset, row.target].append(row)
    columns = ["modality", "data set", "target", "images", "present", "Dice", "IoU", "NSD (2 px)", "Dice, 95 %"]
    hints = {} if all(row.click_dice is None for row in rows) else HINTED
    lines = table_head([*columns, *hints.values()])
    means = []
    hinted: dict[str, list[float]] = {name: [] for name in hints}
    for key, members in sorted(groups.items()):
        present = [row for row in members if row.present]
        cells = ["-"] * (4 + len(hints))
        if present:
            values = [float(np.mean([getattr(row, name) for row in present])) for name in ("dice", "iou", "nsd")]
            means.append(values[0])
            dice = mean_with_interval([row.unit for row in present], np.array([row.dice for row in present]))
            interval = "-" if np.isnan(dice.low) else f"{dice.low:.3f}-{dice.high:.3f}"
            for name in hints:
                hinted[name].append(float(np.mean([getattr(row, name) for row in present])))
            cells = [*(f"{value:.3f}" for value in values), interval, *(f"{hinted[name][-1]:.3f}" for name in hints)]
        lines.append(f"| {' | '.join(key)} | {len(members)} | {len(present)} | {' | '.join(cells)} |")
    said = np.array([row.presence for row in rows], dtype=np.float64)
    present_flags = np.array([row.present for row in rows], dtype=bool)
    lines += ["", f"Mean Dice over {len(means)} (data set, target) pairs: {np.mean(means) if means else 0:.3f}"]
    lines += [f"Mean {title} over the same pairs: {np.mean(hinted[name] or [0]):.3f}" for name, title in hints.items()]
    auroc = presence_auroc(said, present_flags) if rows else float("nan")
    if not np.isnan(auroc):
        lines.append(f"Presence AUROC over labelled targets: {auroc:.3f} ({int((~present_flags).sum())} absent)")
    if unknown:
        names = ", ".join(f"{name} ({count} images)" for name, count in sorted(unknown.items()))
        lines.append(f"Left out, for no target has the name: {names}")
    presence = presence_table(everything)
    if presence:
        lines += ["", "Presence over what was asked, at the thresholds of the weights:", "", *presence]
    lines += ["", "Targets found among those that were asked and labelled:", "", *recognition_table(rows)]
    return "\n".join(lines) + "\n"
