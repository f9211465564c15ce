"""Print what a few examples of a new target are worth, as a Markdown table.

The weights must not have seen the targets (`left_out` in the settings of `rcmed train`):

python benchmarks/few_shot.py MODEL TRAIN_INDEX TEST_INDEX ROOT idrid:"optic disc" hc18:"fetal head"

Dice is of the masks alone, on all test images of the data set that show the target; presence plays no part. Examples
are drawn from the training images, once for each of three seeds.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rcmed import Assistant
from rcmed.data.triplets import Triplet, read_index
from rcmed.evaluation.metrics import score_mask
from rcmed.inference.logits import SliceReader
from rcmed.model.exemplar import Exemplar
from rcmed.site_learning.few_shot import FIT_STEPS, learn_from_examples

EXAMPLES = 5
SEEDS = (0, 1, 2)


def mean_dice(assistant: Assistant, triplets: Sequence[Triplet], name: str, exemplar: Exemplar | None) -> float:
    reader = SliceReader(assistant.model, assistant.processor, exemplars={} if exemplar is None else {name: exemplar})
    scores = []
    for triplet in triplets:
        wanted = triplet.read_mask(name)
        found = next(reader.read(triplet.read_pixels()[None], [name], triplet.modality)).masks[0, 0]
        scores.append(score_mask(found, wanted).dice)
    return float(np.mean(scores))


def main(model: Path, train_index: Path, test_index: Path, root: Path, questions: Sequence[str]) -> None:
    assistant = Assistant.from_pretrained(model, "cpu")
    known = set(assistant.model.config.target_names)
    train, test = read_index(train_index, root), read_index(test_index, root)
    print(f"| data set | target | test images | no example | {EXAMPLES}: prototype, place | {EXAMPLES}: and fitted |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for question in questions:
        dataset, name = question.split(":")
        if name in known:
            raise SystemExit(f"{model}: was trained on {name!r}, so this would show nothing")
        drawn_from = [t for t in train if t.dataset == dataset and name in t.masks]
        asked = [t for t in test if t.dataset == dataset and name in t.masks]
        shown: list[str] = [f"{mean_dice(assistant, asked, name, None):.2f}"]
        for fit_steps in (0, FIT_STEPS):
            scores = []
            for seed in SEEDS:
                order = np.random.default_rng(seed).permutation(len(drawn_from))[:EXAMPLES]
                examples = [drawn_from[index] for index in order]
                pixels, masks = [t.read_pixels() for t in examples], [t.read_mask(name) for t in examples]
                exemplar = learn_from_examples(
                    assistant.model, assistant.processor, name, asked[0].modality, pixels, masks, fit_steps
                )
                scores.append(mean_dice(assistant, asked, name, exemplar))
            shown.append(f"{np.mean(scores):.2f} ({min(scores):.2f} - {max(scores):.2f})")
        print(f"| {dataset} | {name} | {len(asked)} | {' | '.join(shown)} |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 6:
        raise SystemExit(__doc__)
    model, train_index, test_index, root = map(Path, sys.argv[1:5])
    main(model, train_index, test_index, root, sys.argv[5:])
