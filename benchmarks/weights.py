"""Make the shipped weights: train in stages, choose constants on validation, test once, fill the card's tables.

python benchmarks/weights.py ROOT [--device DEVICE] [--stages CONFIG ...] [--model FOLDER] [--test CARD]

ROOT holds image2label_2d_{train,validation,test}.json. Every stage is `rcmed train --config`: the first one starts from
ImageNet, each other one from what the one before left, which is put into the place of the shipped weights. A stage goes
on where it was cut off. Without `--stages` nothing is trained, and the constants of `--model` are chosen. `--test`
opens the test split and writes its table and the one of the data sets into the card, between the marks it has for them.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import subprocess
import sys
from collections import defaultdict
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from anatomical_gate import answers, print_table, print_threshold
from per_target_table import main as print_targets
from safetensors.torch import load_file, save_file

from rcmed import Assistant
from rcmed.data.triplets import Triplet, read_index
from rcmed.evaluation.scoring import image_of
from rcmed.inference.logits import SliceReader
from rcmed.inference.plausibility import misplaced_because
from rcmed.inference.viewing import ReaderView
from rcmed.model.heads.regions import likely_regions
from rcmed.model.packaged import model_folder
from rcmed.model.processor import to_eight_bit
from rcmed.vocabulary.table import regions_imaged_by

REGION_LEAST = (1.0, 0.5, 0.4, 0.3, 0.2, 0.15, 0.1, 0.05, 0.02)
MOST_IMAGES = 25
"""Of a data set, where the least probability of a region is chosen."""

# What a click must add to the mean Dice over the pairs of the validation split for weights to say that they take hints.
USEFUL_CLICK = 0.05


def train(stage: Path, device: str) -> Path:
    """Run a stage to its end.

    Returns:
        the folder of its weights.
    """
    subprocess.run(["rcmed", "train", "--config", str(stage), "--device", device], check=True)
    output = yaml.safe_load(stage.read_text())["output"]
    return Path(output) / "model"


def ship(model: Path) -> None:
    """Put weights into the place of those that come with the package; the card stays until it is written."""
    shipped = model_folder("small")
    for file in model.iterdir():
        if file.is_file() and file.name != "README.md":
            shutil.copyfile(file, shipped / file.name)


def least_region(assistant: Assistant, triplets: list[Triplet]) -> float:
    """The highest probability for a body region to count as shown, of those that lose fewest targets that are there."""
    reader = SliceReader(assistant.model, assistant.processor)
    names = assistant.model.config.body_regions
    seen = []
    count: dict[str, int] = defaultdict(int)
    for triplet in triplets:
        count[triplet.dataset] += 1
        if count[triplet.dataset] > MOST_IMAGES:
            continue
        image = image_of(triplet)
        there = [target for target in assistant.known_targets(image) if target.name in triplet.masks]
        if there:
            logits = reader.encode(ReaderView.of(image.grid).to_view(to_eight_bit(image))).region_logits
            assert logits is not None
            seen.append((there, logits.sigmoid().numpy(), regions_imaged_by(image.modality)))
    lost = {
        least: sum(
            misplaced_because(target, likely_regions(likely, names, least, imaged)) is not None
            for there, likely, imaged in seen
            for target in there
        )
        for least in REGION_LEAST
    }
    print(f"true targets lost by region_least, of {sum(len(there) for there, _, _ in seen)}: {lost}")
    return max(least for least in REGION_LEAST if lost[least] == min(lost.values()))


def evaluate(index: Path, root: Path, model: Path, output: Path) -> list[dict[str, str]]:
    """`rcmed evaluate` of every labelled target; its rows."""
    asked = ["--prompts", "labelled", "--foreign", "3"]
    command = ["rcmed", "evaluate", str(index), "--root", str(root), "--model", str(model), "--output", str(output)]
    subprocess.run([*command, *asked], check=True)
    with (output / "metrics.csv").open() as opened:
        return list(csv.DictReader(opened))


def mean_of_pairs(rows: list[dict[str, str]], column: str) -> float:
    """Mean over the pairs of data set and target of the mean of a column; NaN where it is empty."""
    by_pair: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        if row["present"] == "True" and row[column]:
            by_pair[row["dataset"], row["target"]].append(float(row[column]))
    return float(np.mean([np.mean(values) for values in by_pair.values()])) if by_pair else float("nan")


def choose(model: Path, root: Path, output: Path) -> None:
    """Set the constants of weights on the validation split, and leave out what they did not learn."""
    settings = json.loads((model / "config.json").read_text())
    index = root / "image2label_2d_validation.json"
    assistant = Assistant.from_pretrained(model, "cpu")
    triplets = read_index(index, root)
    settings["region_least"] = assistant.model.config.region_least = least_region(assistant, triplets)
    rows = list(answers(assistant, triplets))
    print_table(rows)
    by_gate = print_threshold(rows, assistant.model.config.presence_thresholds[1])
    settings["recognise_from"] = [by_gate["region told"], by_gate["region seen"]]
    # A mask that is sure of what presence denies made more false findings than it saved true ones.
    settings["sure_mask_logit"] = None
    _write_settings(model, settings)
    scored = evaluate(index, root, model, output / "validation")
    words, click, box = (mean_of_pairs(scored, column) for column in ("dice", "click_dice", "box_dice"))
    print(f"validation: {words:.3f} in words, {click:.3f} with a click, {box:.3f} with a box")
    if settings["takes_hints"] and not click >= words + USEFUL_CLICK:
        settings["takes_hints"] = settings["hints_without_name"] = False
        _write_settings(model, settings)
        weights = load_file(model / "model.safetensors")
        kept = {name: value for name, value in weights.items() if ".hint_maps." not in name}
        save_file(kept, model / "model.safetensors", {"format": "pt"})


def _write_settings(model: Path, settings: dict[str, Any]) -> None:
    (model / "config.json").write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")


def data_sets(root: Path, card: str) -> str:
    """Table of what was trained on, as Markdown, from the provenance of its images; healthy controls as in the card."""
    lines = (root / "provenance.jsonl").read_text().splitlines()
    by_set: dict[tuple[str, str], list[dict[str, str]]] = defaultdict(list)
    for row in map(json.loads, lines):
        if row["split"] == "train":
            by_set[row["modality"], row["dataset"]].append(row)
    table = ["| modality | data set | source | licence | training patients | training images |"]
    table += ["| --- | --- | --- | --- | ---: | ---: |"]
    for (modality, name), rows in sorted(by_set.items()):
        source = ", ".join(sorted({row["source"].split(":")[0] for row in rows}))
        licence = "; ".join(sorted({row["licence"] for row in rows}))
        patients = len({row["patient"] for row in rows})
        table.append(f"| {modality} | {name} | {source} | {licence} | {patients} | {len(rows)} |")
    table += [line for line in card.splitlines() if "(healthy control)" in line]
    return "\n".join(table)


def fill(card: str, mark: str, table: str) -> str:
    """The card with what stands between `<!-- MARK -->` and `<!-- end of MARK -->` replaced."""
    before, rest = card.split(f"<!-- {mark} -->\n")
    _, after = rest.split(f"<!-- end of {mark} -->\n")
    return f"{before}<!-- {mark} -->\n{table.strip()}\n<!-- end of {mark} -->\n{after}"


def main() -> None:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--stages", type=Path, nargs="*", default=[])
    parser.add_argument("--model", type=Path, default=model_folder("small"))
    parser.add_argument("--output", type=Path, default=Path("runs/weights"))
    parser.add_argument("--test", type=Path, metavar="CARD")
    asked = parser.parse_args()
    model = asked.model
    for stage in asked.stages:
        model = train(stage, asked.device)
        ship(model)
    choose(model, asked.root, asked.output)
    if asked.stages:
        ship(model)
    if asked.test is not None:
        rows = evaluate(asked.root / "image2label_2d_test.json", asked.root, model, asked.output / "test")
        columns = {"in words": "dice", "with a click": "click_dice", "with a box": "box_dice"}
        print({name: round(mean_of_pairs(rows, column), 3) for name, column in columns.items()})
        written = StringIO()
        with redirect_stdout(written):
            print_targets(asked.root / "image2label_2d_train.json", asked.root, asked.output / "test" / "metrics.csv")
        card = fill(asked.test.read_text(), "targets", written.getvalue())
        asked.test.write_text(fill(card, "data sets", data_sets(asked.root, card)))


if __name__ == "__main__":
    sys.exit(main())
