"""Two processes that share each step's images: together they do what one does."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
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


@pytest.mark.integration
def test_two_processes_give_the_gradients_and_the_weights_of_one(tiny_index: TrainingSettings, tmp_path: Path) -> None:
    functions = runpy.run_path(str(WORKER))
    variants = {name: tiny_index.model_copy(update=changes) for name, changes in VARIANTS.items()}
    (tmp_path / "together").mkdir()
    for name, settings in variants.items():
        (tmp_path / "together" / f"{name}.yaml").write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    functions["start"](tmp_path / "together")
    for name, settings in variants.items():
        trainer = Trainer(settings)
        before = {key: value.clone() for key, value in trainer.model.state_dict().items()}
        alone = functions["take_steps"](trainer, settings.steps)
        functions["assert_same"](load_file(tmp_path / "together" / f"{name}.safetensors"), alone, before)
