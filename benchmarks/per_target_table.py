"""Print what weights can and can't do: per data set and target the training patients and the test Dice, as Markdown.

rcmed evaluate TEST_INDEX --root ROOT --output evaluation
python benchmarks/per_target_table.py TRAIN_INDEX ROOT evaluation/metrics.csv
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from rcmed.data.triplets import read_index

FEWEST_PATIENTS = 10
"""Fewer training patients than this, and a target is marked "not usable" whatever its figure."""


def main(train_index: Path, root: Path, metrics: Path) -> None:
    patients: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for triplet in read_index(train_index, root):
        for name in triplet.masks:
            patients[triplet.modality.value, triplet.dataset, name].add(triplet.patient)
    dice: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    with metrics.open() as opened:
        for row in csv.DictReader(opened):
            if row["present"] == "True":
                dice[row["modality"], row["dataset"], row["target"]].append(float(row["dice"]))
    print("| modality | data set | target | training patients | test images | test Dice | |")
    print("| --- | --- | --- | ---: | ---: | ---: | --- |")
    for key in sorted({*patients, *dice}):
        known, values = len(patients[key]), dice[key]
        shown = f"{np.mean(values):.2f}" if values else "-"
        note = "not usable" if known < FEWEST_PATIENTS else "" if values else "untested"
        print(f"| {' | '.join(key)} | {known} | {len(values)} | {shown} | {note} |")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        raise SystemExit(__doc__)
    main(*map(Path, sys.argv[1:]))
