"""Made pictures of two targets, and weights that know one of them well and the other by half, trained in seconds."""

from __future__ import annotations

import json
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image as PillowImage

from rcmed.model.config import RCMedConfig
from rcmed.model.modeling import RCMedModel
from rcmed.model.processor import RCMedProcessor
from rcmed.model.tokenizer import build_tokenizer
from rcmed.training.settings import TrainingSettings
from rcmed.training.trainer import Trainer

# The same examples every time, and no limit of time for one: how fast the machine is, is no property of the code.
hypothesis.settings.register_profile("rcmed", derandomize=True, deadline=None)
hypothesis.settings.load_profile("rcmed")

Shapes = tuple[NDArray[np.uint8], dict[str, NDArray[np.bool_]]]


class ShapeMaker:
    """Bright discs called "liver" at the left of a noisy picture, squares called "spleen" at its right."""

    size = 64

    def draw(self, seed: int) -> Shapes:
        """Grey uint8 (row, column), and a mask of each target."""
        generator = np.random.default_rng(seed)
        pixels = generator.integers(20, 60, (self.size, self.size), dtype=np.uint8)
        rows, columns = np.mgrid[: self.size, : self.size]
        row, column, radius = generator.integers(14, 50), generator.integers(12, 22), generator.integers(7, 10)
        disc = (rows - row) ** 2 + (columns - column) ** 2 < radius**2
        row, column, half = generator.integers(14, 50), generator.integers(42, 52), generator.integers(6, 9)
        square = (abs(rows - row) < half) & (abs(columns - column) < half)
        pixels[disc] += 150
        pixels[square] += 90
        return pixels, {"liver": disc, "spleen": square}


@pytest.fixture(scope="session")
def shapes() -> ShapeMaker:
    return ShapeMaker()


@pytest.fixture(scope="session")
def weak_weights(shapes: ShapeMaker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder: it was taught that a square is a spleen, and that only the upper half of a disc is a liver."""
    root = tmp_path_factory.mktemp("weak-weights")
    names = ("liver", "spleen")
    tokenizer = build_tokenizer(names)
    language = {
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
        "vocab_size": len(tokenizer),
        "bos_token_id": 0,
        "eos_token_id": 1,
    }
    torch.manual_seed(0)
    config = RCMedConfig(
        image_size=shapes.size,
        vision_widths=(8, 16, 24, 32, 48),
        vision_depths=(0, 1, 1, 1, 1),
        prompt_size=48,
        language=language,
        target_names=names,
    )
    RCMedModel(config).save_pretrained(str(root / "fresh"))
    RCMedProcessor(tokenizer, config.image_size, config.pixel_mean, config.pixel_std).save_pretrained(root / "fresh")
    index: dict[str, list[dict[str, str]]] = {}
    provenance = []
    for number in range(24):
        pixels, masks = shapes.draw(number)
        image = f"ct--made--{number}.png"
        PillowImage.fromarray(pixels).save(root / image)
        disc = masks["liver"]
        masks["liver"] = disc & (np.arange(shapes.size) < np.flatnonzero(disc.any(1)).mean())[:, None]
        labelled = names if number % 2 else names[1:]
        index[image] = []
        for name in labelled:
            PillowImage.fromarray(masks[name].astype(np.uint8) * 255).save(root / f"{name}-{number}.png")
            index[image].append({f"{name}-{number}.png": name})
        provenance.append({"image": image, "dataset": "made", "patient": str(number), "labelled": labelled})
    (root / "index.json").write_text(json.dumps(index))
    (root / "provenance.jsonl").write_text("\n".join(map(json.dumps, provenance)))
    settings = TrainingSettings(
        index=root / "index.json",
        root=root,
        output=root / "run",
        start_from=root / "fresh",
        steps=70,
        batch_images=4,
        image_size=shapes.size,
        learning_rate=4e-3,
        warmup_steps=5,
        ema_decay=0.9,
        absent_rate=0.0,
        reflection_rate=0.3,
        presence_steps=10,
        presence_absent_rate=0.0,
        checkpoint_every=1000,
        threads=1,
        precision="fp32",
    )
    return Trainer(settings).run(show_progress=False)
