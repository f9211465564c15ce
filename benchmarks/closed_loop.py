"""Print what turns of the closed loop are worth, as a Markdown table.

python benchmarks/closed_loop.py TRAIN_INDEX TEST_INDEX ROOT [--output runs/closed-loop] [--threads 2]

One set of weights without a loop is trained from scratch at a small size; from it, each number of turns goes on with
each seed for the same budget, without a presence stage. Dice is of the masks alone, on the test images that show the
target. What is found in the output folder is not trained again, so a run that was cut off goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rcmed import Assistant
from rcmed.data.triplets import Triplet, read_index
from rcmed.evaluation.metrics import score_mask
from rcmed.inference.logits import SliceReader
from rcmed.training.settings import TrainingSettings
from rcmed.training.trainer import Trainer

TURNS, SEEDS = (0, 1, 2), (1, 2)
START_STEPS, STEPS = 2000, 400
IMAGE_SIZE = 128
# Pairs of data set and target with fewer test images say little.
FEWEST_IMAGES = 20


def train(settings: TrainingSettings) -> Path:
    """The finished model of a run, trained only where it is not there yet, with its time a step beside it."""
    times = settings.output / "time.json"
    if not times.exists():
        begin = time.perf_counter()
        Trainer(settings).run()
        times.write_text(json.dumps({"seconds_a_step": (time.perf_counter() - begin) / settings.steps}))
    return settings.output / "model"


def dice_of_answers(model: Path, triplets: Sequence[Triplet]) -> dict[tuple[str, str], list[float]]:
    assistant = Assistant.from_pretrained(model, "cpu")
    reader = SliceReader(assistant.model, assistant.processor)
    scores = defaultdict(list)
    for triplet in triplets:
        names = sorted(triplet.masks)
        found = next(reader.read(triplet.read_pixels()[None], names, triplet.modality)).masks[:, 0]
        for name, mask in zip(names, found, strict=True):
            scores[triplet.dataset, name].append(score_mask(mask, triplet.read_mask(name)).dice)
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("train_index", type=Path)
    parser.add_argument("test_index", type=Path)
    parser.add_argument("root", type=Path)
    parser.add_argument("--output", type=Path, default=Path("runs/closed-loop"))
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    common = TrainingSettings(
        index=given.train_index,
        root=given.root,
        output=given.output / "start",
        image_size=IMAGE_SIZE,
        presence_steps=0,
        precision="fp32",
        threads=given.threads,
    )
    start = train(common.model_copy(update={"steps": START_STEPS}))
    triplets = [triplet for triplet in read_index(given.test_index, given.root) if triplet.masks]
    print(f"| turns | seed | pairs | answers | pairs with {FEWEST_IMAGES} images or more | time a step |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for turns in TURNS:
        for seed in SEEDS:
            changes = {
                "output": given.output / f"turns-{turns}-seed-{seed}",
                "start_from": start,
                "loop_turns": turns,
                "steps": STEPS,
                "seed": seed,
            }
            settings = common.model_copy(update=changes)
            scores = dice_of_answers(train(settings), triplets)
            pairs = np.mean([np.mean(values) for values in scores.values()])
            answers = np.mean([value for values in scores.values() for value in values])
            many = np.mean([np.mean(values) for values in scores.values() if len(values) >= FEWEST_IMAGES])
            spent = json.loads((settings.output / "time.json").read_text())["seconds_a_step"]
            print(f"| {turns} | {seed} | {pairs:.3f} | {answers:.3f} | {many:.3f} | {spent:.2f} s |", flush=True)


if __name__ == "__main__":
    main()
