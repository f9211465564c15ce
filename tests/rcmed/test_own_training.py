"""A user's own images and masks become weights that `rcmed find` uses, also for a target that no table knows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage
from typer.testing import CliRunner

from rcmed.assistant import Assistant
from rcmed.cli import build_app
from rcmed.errors import ConfigurationError
from rcmed.findings import FindingStatus
from rcmed.image import Grid, Image
from rcmed.modality import Modality

SIZE = 64
SETTINGS = f"""
image_size: {SIZE}
start_from: null
steps: 60
batch_images: 4
learning_rate: 0.003
warmup_steps: 10
ema_decay: 0.9
fill_rate: 0
close_up_rate: 0
presence_steps: 8
checkpoint_every: 60
threads: 1
precision: fp32
"""


def draw(seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    pixels = generator.integers(20, 60, (SIZE, SIZE), dtype=np.uint8)
    row, column = generator.integers(8, SIZE - 24, 2)
    mask = np.zeros((SIZE, SIZE), dtype=bool)
    mask[row : row + 16, column : column + 16] = True
    pixels[mask] += 160
    return pixels, mask


def run(*arguments: str) -> str:
    result = CliRunner().invoke(build_app(arguments), list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.slow
def test_own_images_and_masks_end_in_weights_that_find_uses(tmp_path: Path) -> None:
    data = tmp_path / "my images"
    for folder in ("images", "masks/pedicle_screw"):
        (data / folder).mkdir(parents=True)
    for number in range(12):
        pixels, mask = draw(number)
        PillowImage.fromarray(pixels).save(data / "images" / f"{number}.png")
        PillowImage.fromarray(mask).save(data / "masks" / "pedicle_screw" / f"{number}.png")
    (tmp_path / "training.yaml").write_text(SETTINGS)
    model = tmp_path / "model"
    run(
        *("train", str(data), "--modality", "x_ray", "--output", str(model)),
        *("--config", str(tmp_path / "training.yaml")),
    )
    pixels, truth = draw(1000)
    PillowImage.fromarray(pixels).save(tmp_path / "new.png")
    for prompt in ("pedicle screw", ""):  # asked by its name, and recognised
        output = tmp_path / f"findings{len(prompt)}"
        run(
            *("find", str(tmp_path / "new.png"), "--modality", "x_ray", "--prompt", prompt),
            *("--model", str(model / "model"), "--output", str(output)),
        )
        (finding,) = json.loads((output / "findings.json").read_text())["findings"]
        assert finding["target"] == "pedicle screw"
        mask = np.asarray(PillowImage.open(output / finding["mask"])) > 0
        assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.7


def test_neither_data_nor_settings_is_told() -> None:
    with pytest.raises(ConfigurationError, match="give a folder"):
        CliRunner().invoke(build_app(["train"]), ["train"], catch_exceptions=False)


def test_a_target_of_another_modality_is_not_looked_for() -> None:
    assistant = Assistant.from_pretrained("small", "cpu")
    image = Image(np.zeros((1, 32, 32), dtype=np.uint8), Grid.without_geometry(32, 32), Modality.X_RAY)
    findings = assistant.find(image, ["skin lesion", "lung"]).findings
    assert [finding.status for finding in findings][0] is FindingStatus.UNRESOLVED
    assert findings[0].reason is not None and "dermoscopy" in findings[0].reason and findings[0].mask is None
    assert findings[1].status is not FindingStatus.UNRESOLVED
