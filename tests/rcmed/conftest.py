"""A tiny made index to train on."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from rcmed.training.settings import TrainingSettings


@pytest.fixture
def tiny_index(tmp_path: Path) -> TrainingSettings:
    """Bright squares called "left kidney" in CT, and discs in photographs."""
    generator = np.random.default_rng(0)
    index: dict[str, list[dict[str, str]]] = {}
    provenance = []
    for number in range(6):
        modality, name = ("ct", "left kidney") if number % 2 else ("fundus", "optic disc")
        pixels = generator.integers(0, 60, (70, 90, 3), dtype=np.uint8)
        mask = np.zeros((70, 90), dtype=np.uint8)
        mask[20:50, 10 + number : 40 + number] = 255
        pixels[mask > 0] += 150
        image = f"{modality}--made--{number}.png"
        PillowImage.fromarray(pixels).save(tmp_path / image)
        PillowImage.fromarray(mask).save(tmp_path / f"mask{number}.png")
        index[image] = [{f"mask{number}.png": name}]
        labelled = [name, "right kidney"] if modality == "ct" else [name]
        provenance.append({"image": image, "dataset": "made", "patient": str(number), "labelled": labelled})
    (tmp_path / "index.json").write_text(json.dumps(index))
    (tmp_path / "provenance.jsonl").write_text("\n".join(map(json.dumps, provenance)))
    return TrainingSettings(
        index=tmp_path / "index.json",
        root=tmp_path,
        output=tmp_path / "run",
        steps=4,
        batch_images=2,
        image_size=64,
        warmup_steps=1,
        checkpoint_every=2,
        presence_steps=3,
        threads=1,
        precision="fp32",
    )
