"""Active against random selection: three rounds, three seeds, on real images, from weak weights.

The weights that come with the package have seen the training images, so the start is a network of its own: the same
architecture, narrow and at 128 px, trained for a few minutes on nine data sets and on only ten images of the target.
The pool is drawn from training images of the target that it has not seen; the test images are of held-out patients.

python benchmarks/active_learning.py TRIPLETS_FOLDER WORK_FOLDER
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from rcmed.assistant import Assistant
from rcmed.data.triplets import Triplet, read_index
from rcmed.findings import ModelIdentity
from rcmed.image import Grid, Image
from rcmed.model.config import RCMedConfig
from rcmed.model.modeling import RCMedModel
from rcmed.model.processor import RCMedProcessor
from rcmed.model.tokenizer import build_tokenizer
from rcmed.site_learning.corrections import CorrectionSettings, fine_tune
from rcmed.site_learning.judging import score_pairs
from rcmed.site_learning.uncertainty import uncertainty
from rcmed.training.batches.packed import PackedTriplet, pack
from rcmed.training.settings import TrainingSettings
from rcmed.training.trainer import Trainer
from rcmed.vocabulary import target_named

TARGET, DATASET = "skin lesion", "isic2017"
OTHERS = ("hc18", "wbc_zheng2018", "dsb2018", "kermany_v7", "msd_hippocampus", "hyperkvasir_seg", "busi", "usgra")
IMAGES_PER_SET, SEEN, SIZE, STEPS = 50, 10, 128, 400
POOL, TEST, OTHER_TEST = 60, 60, 6
ROUNDS, PER_ROUND, SEEDS = 3, 5, (0, 1, 2)
LEARNING = CorrectionSettings(steps=40, learning_rate=1e-3, threads=1)


def start(root: Path, work: Path) -> Path:
    """The weak weights; trained once."""
    folder = work / "start"
    if (folder / "done").exists():
        return folder / "model"
    entries = json.loads((root / "image2label_2d_train.json").read_text())
    chosen: dict[str, list[Triplet]] = {}
    for triplet in read_index(root / "image2label_2d_train.json", root):
        limit = SEEN if triplet.dataset == DATASET else IMAGES_PER_SET
        if triplet.dataset in (*OTHERS, DATASET) and len(chosen.setdefault(triplet.dataset, [])) < limit:
            chosen[triplet.dataset].append(triplet)
    seen = [triplet for each in chosen.values() for triplet in each]
    names = sorted({name for triplet in seen for name in triplet.labelled})
    tokenizer = build_tokenizer(names)
    language = {
        "hidden_size": 96,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
        "vocab_size": len(tokenizer),
        "bos_token_id": 0,
        "eos_token_id": 1,
    }
    widths = (16, 24, 48, 96, 128)
    torch.manual_seed(0)
    config = RCMedConfig(
        image_size=SIZE, vision_widths=widths, prompt_size=64, language=language, target_names=tuple(names)
    )
    RCMedModel(config).save_pretrained(str(folder / "fresh"))
    RCMedProcessor(tokenizer, SIZE, config.pixel_mean, config.pixel_std).save_pretrained(folder / "fresh")
    images = [str(triplet.image.relative_to(root)) for triplet in seen]
    (folder / "index.json").write_text(json.dumps({image: entries[image] for image in images}))
    settings = TrainingSettings(
        index=folder / "index.json",
        root=root,
        output=folder,
        start_from=folder / "fresh",
        steps=STEPS,
        batch_images=6,
        image_size=SIZE,
        warmup_steps=40,
        ema_decay=0.98,
        presence_steps=60,
        checkpoint_every=STEPS,
        threads=1,
        precision="fp32",
    )
    Trainer(settings).run()
    (folder / "done").touch()
    return folder / "model"


def by_uncertainty(measure: str) -> Callable[[RCMedModel, RCMedProcessor, list[Triplet], int], list[Triplet]]:
    """The images that a measure of `rcmed.site_learning.uncertainty` is highest on."""

    def select(model: RCMedModel, processor: RCMedProcessor, pool: list[Triplet], seed: int) -> list[Triplet]:
        assistant = Assistant(model, processor, ModelIdentity("start", "", ""))
        scores = []
        for triplet in pool:
            pixels = triplet.read_pixels()[None]
            image = Image(pixels, Grid.without_geometry(*pixels.shape[1:3]), triplet.modality)
            scores.append(getattr(uncertainty(assistant, image, [target_named(TARGET)]), measure))
        return [pool[index] for index in np.argsort(scores, kind="stable")[::-1][:PER_ROUND]]

    return select


def at_random(model: RCMedModel, processor: RCMedProcessor, pool: list[Triplet], seed: int) -> list[Triplet]:
    return [pool[index] for index in np.random.default_rng((seed, len(pool))).permutation(len(pool))[:PER_ROUND]]


SELECTIONS = {
    "random": at_random,
    "most disagreement": by_uncertainty("disagreement"),
    "most uncertain": by_uncertainty("presence_entropy"),
}


def mean_dice(model: RCMedModel, processor: RCMedProcessor, slices: list[PackedTriplet]) -> float:
    return float(np.mean([score.dice for score in score_pairs(model, processor, slices)]))


def main(root: Path, work: Path) -> None:
    torch.set_num_threads(1)
    progress = Console(stderr=True)
    folder = start(root, work)
    processor = RCMedProcessor.from_pretrained(folder)
    training = [t for t in read_index(root / "image2label_2d_train.json", root) if t.dataset == DATASET][SEEN:]
    held_out = read_index(root / "image2label_2d_test.json", root)
    test = [pack(triplet, SIZE) for triplet in [t for t in held_out if t.dataset == DATASET][:TEST]]
    others = [pack(t, SIZE) for name in OTHERS for t in [t for t in held_out if t.dataset == name][:OTHER_TEST]]
    weak = RCMedModel.from_pretrained(folder).eval()
    began, began_others = mean_dice(weak, processor, test), mean_dice(weak, processor, others)
    print(f"start: {TARGET} {began:.3f}, other targets {began_others:.3f} ({len(test)} and {len(others)} images)\n")
    columns = "".join(f" {PER_ROUND * (number + 1)} images |" for number in range(ROUNDS))
    print(f"| selection | seed |{columns} other targets |\n| --- | --- |{' ---: |' * (ROUNDS + 1)}")
    results: dict[str, list[list[float]]] = {}
    for seed in SEEDS:
        order = np.random.default_rng(seed).permutation(len(training))
        drawn = [training[index] for index in order[:POOL]]
        for name, select in SELECTIONS.items():
            model, pool, labelled, row = weak, list(drawn), [], []
            for number in range(ROUNDS):
                chosen = select(model, processor, pool, seed)
                pool = [triplet for triplet in pool if triplet not in chosen]
                labelled += [pack(triplet, SIZE) for triplet in chosen]
                settings = LEARNING.model_copy(update={"seed": seed * ROUNDS + number})
                model = fine_tune(model, processor, labelled, [], settings).model
                row.append(mean_dice(model, processor, test))
                progress.print(f"{name}, seed {seed}, round {number}: {row[-1]:.3f}")
            row.append(mean_dice(model, processor, others))
            results.setdefault(name, []).append(row)
            print(f"| {name} | {seed} |" + "".join(f" {value:.3f} |" for value in row), flush=True)
    for name, rows in results.items():
        print(f"| {name} | mean |" + "".join(f" {value:.3f} |" for value in np.mean(rows, axis=0)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
