"""Two processes that share each step's images: together they do what one does."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file

from rcmed.data.triplets import read_index
from rcmed.training.settings import TrainingSettings
from rcmed.training.trainer import Trainer
from rcmed.training.validation import hold_out

WORKER = Path(__file__).with_name("shared_steps.py")
# 3 images for 2 processes; hints, whose draws depend on all masks; conversations, whose words are as many as each
# process's images need; adapters, whose input drops out in training.
VARIANTS: dict[str, dict[str, Any]] = {
    # Of seed 0 a unit lies so near its kink that some processors round it to either side, by the number of images.
    "hints": {"steps": 2, "seed": 1, "batch_images": 3, "reflection_rate": 0.5, "hint_rate": 1.0, "loop_turns": 1},
    "conversations": {"steps": 2, "batch_images": 3, "conversations": "as published"},
    "adapters": {"steps": 2, "batch_images": 3, "lora_rank": 2},
}


@pytest.mark.integration
def test_two_processes_give_the_gradients_and_the_weights_of_one(tiny_index: TrainingSettings, tmp_path: Path) -> None:
    functions = runpy.run_path(str(WORKER))
    variants = {name: TrainingSettings(**{**dict(tiny_index), **changes}) for name, changes in VARIANTS.items()}
    (tmp_path / "together").mkdir()
    for name, settings in variants.items():
        (tmp_path / "together" / f"{name}.yaml").write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    functions["start"](tmp_path / "together")
    for name, settings in variants.items():
        trainer = Trainer(settings)
        before = {key: value.clone() for key, value in trainer.model.state_dict().items()}
        alone = functions["take_steps"](trainer, settings.steps)
        functions["assert_same"](load_file(tmp_path / "together" / f"{name}.safetensors"), alone, before)


@pytest.mark.integration
def test_the_command_runs_in_two_processes_and_goes_on_in_one(tiny_index: TrainingSettings, tmp_path: Path) -> None:
    settings = tiny_index.model_copy(update={"steps": 2, "validation_share": 0.5, "validate_every": 1})
    (tmp_path / "training.yaml").write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    command = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    command += ["-m", "rcmed", "train", "--config", str(tmp_path / "training.yaml")]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "MASTER_PORT": "0"}
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("model written to") == 1
    lines = (settings.output / "validation.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2], "one process writes"
    rows = (settings.output / "validation.md").read_text()
    held_out = hold_out(read_index(settings.index, settings.root), 0.5)[1]
    assert f"{len(held_out)} images" in rows, "of both processes"

    alone = Trainer(settings.model_copy(update={"output": tmp_path / "alone"}))
    alone.run(show_progress=False)
    model = load_file(settings.output / "model" / "model.safetensors")
    apart = sum(float((alone.averaged[name] - value).abs().sum()) for name, value in model.items())
    assert apart < 1e-4 * sum(float(value.abs().sum()) for value in model.values())
    longer = Trainer(settings.model_copy(update={"steps": 3}))
    assert longer.step == 2
    longer.train_step()
