"""Two processes that share each step's images: together they do what one does."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from rcmed.training.settings import TrainingSettings
from rcmed.training.trainer import Trainer

WORKER = Path(__file__).with_name("shared_steps.py")
# 3 images for 2 processes; hints, whose draws depend on all masks; adapters, whose input drops out in training.
VARIANTS: dict[str, dict[str, Any]] = {
    "hints": {"batch_images": 3, "reflection_rate": 0.5, "hint_rate": 1.0, "loop_turns": 1},
    "adapters": {"batch_images": 3, "lora_rank": 2},
}


def launch(command: list[str], folder: Path) -> None:
    """Run a command that starts processes of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr


def write_settings(settings: TrainingSettings, path: Path) -> None:
    path.write_text(yaml.safe_dump(settings.model_dump(mode="json")))


@pytest.fixture
def shared(tiny_index: TrainingSettings, tmp_path: Path) -> dict[str, TrainingSettings]:
    """Settings of every variant, which two processes have taken a few steps with."""
    (tmp_path / "variants").mkdir()
    settings = {}
    for name, changes in VARIANTS.items():
        settings[name] = tiny_index.model_copy(update={"output": tmp_path / "variants" / name, **changes})
        write_settings(settings[name], tmp_path / "variants" / f"{name}.yaml")
    launch(
        [*(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"), str(WORKER), "."],
        tmp_path / "variants",
    )
    return settings


@pytest.mark.integration
def test_two_processes_give_the_gradients_and_the_weights_of_one(shared: dict[str, TrainingSettings]) -> None:
    for name, settings in shared.items():
        together = load_file(settings.output.with_suffix(".safetensors"))
        trainer = Trainer(settings.model_copy(update={"output": settings.output / "alone"}))
        before = {key: value.clone() for key, value in trainer.model.state_dict().items()}
        alone = runpy.run_path(str(WORKER))["take_steps"](trainer, settings.steps)
        assert together.keys() == alone.keys(), name
        largest = max(float(value.abs().max()) for key, value in alone.items() if key.startswith("gradient."))
        for key, value in alone.items():
            if key.startswith("loss."):
                torch.testing.assert_close(together[key], value, rtol=1e-3, atol=1e-5, msg=f"{name}: {key}")
            elif key.startswith("gradient."):
                torch.testing.assert_close(together[key], value, rtol=1e-3, atol=1e-5 * largest, msg=f"{name}: {key}")
        # Adam makes steps of gradients that are nothing but rounding: single weights may differ, few do.
        weights = {key.removeprefix("weight."): value for key, value in alone.items() if key.startswith("weight.")}
        moved = sum(float((value - before[key]).abs().sum()) for key, value in weights.items())
        apart = sum(float((value - together[f"weight.{key}"]).abs().sum()) for key, value in weights.items())
        assert apart < 0.01 * moved, name
