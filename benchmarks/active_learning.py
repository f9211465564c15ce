"""Active against random selection: three rounds, three seeds, on real images, from weak weights.

The weights that come with the package have seen the training images, so the start is a network of its own: the same
architecture at 128 px, trained for a few minutes on nine data sets and on only ten images of the target. The pool are
training images of the target that it has not seen, the test images are those of held-out patients.

python benchmarks/active_learning.py TRIPLETS_FOLDER WORK_FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from rcmed.data.triplets import Triplet, read_index
from rcmed.training.settings import TrainingSettings
from rcmed.training.trainer import Trainer

TARGET, DATASET = "skin lesion", "isic2017"
OTHERS = ("hc18", "wbc_zheng2018", "dsb2018", "kermany_v7", "msd_hippocampus", "hyperkvasir_seg", "busi", "usgra")
IMAGES_PER_SET, SEEN, SIZE, STEPS = 50, 10, 128, 450
POOL, TEST, OTHER_TEST = 100, 60, 6
ROUNDS, PER_ROUND, SEEDS = 3, 5, (0, 1, 2)


def start(root: Path, work: Path) -> Path:
    """The weak weights; trained once."""
    folder = work / "start"
    if (folder / "model" / "config.json").exists() and (folder / "done").exists():
        return folder / "model"
    entries = json.loads((root / "image2label_2d_train.json").read_text())
    triplets = read_index(root / "image2label_2d_train.json", root)
    chosen: dict[str, list[Triplet]] = {}
    for triplet in triplets:
        limit = SEEN if triplet.dataset == DATASET else IMAGES_PER_SET
        if triplet.dataset in (*OTHERS, DATASET) and len(chosen.setdefault(triplet.dataset, [])) < limit:
            chosen[triplet.dataset].append(triplet)
    names = [str(t.image.relative_to(root)) for each in chosen.values() for t in each]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.json").write_text(json.dumps({name: entries[name] for name in names}))
    settings = TrainingSettings(
        index=folder / "index.json",
        root=root,
        output=folder,
        steps=STEPS,
        batch_images=6,
        image_size=SIZE,
        warmup_steps=40,
        ema_decay=0.98,
        presence_steps=40,
        checkpoint_every=STEPS,
        threads=1,
    )
    Trainer(settings).run()
    (folder / "done").touch()
    return folder / "model"


if __name__ == "__main__":
    torch.set_num_threads(1)
    start(Path(sys.argv[1]), Path(sys.argv[2]))
