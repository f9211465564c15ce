"""The published architecture in shards (FSDP), as `configs/accelerate-fsdp.yaml` cuts it, on CPUs at reduced width."""

from __future__ import annotations

import os
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.launch import prepare_multi_gpu_env
from safetensors.torch import load_file

from rcmed.errors import ConfigurationError
from rcmed.model.config import RCMedConfig
from rcmed.model.modeling import RCMedModel
from rcmed.training.processes import Processes
from rcmed.training.settings import TrainingSettings
from rcmed.training.trainer import Trainer

CONFIGS = Path(__file__).parents[3] / "configs"
WORKER = Path(__file__).parents[1] / "shared_steps.py"


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What `accelerate launch` tells each process of our configuration."""
    given = ["--config_file", str(CONFIGS / "accelerate-fsdp.yaml"), "-m", "rcmed", "train"]
    arguments, _, _ = _validate_launch_command(launch_command_parser().parse_args(given))
    environment: dict[str, str] = prepare_multi_gpu_env(arguments)
    return {name: value for name, value in environment.items() if os.environ.get(name) != value}


def test_accelerate_takes_the_configuration(launched: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert launched["ACCELERATE_USE_FSDP"] == "true"
    for name, value in launched.items():
        monkeypatch.setenv(name, value)
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2
    with torch.device("meta"):
        model = RCMedModel(RCMedConfig.full())
    plugin.set_auto_wrap_policy(model)
    assert plugin.auto_wrap_policy is not None
    layers = [type(module).__name__ for module in model.modules()]
    assert [layers.count(name) for name in plugin.transformer_cls_names_to_wrap or ()] == [32, 32]


def test_the_settings_are_valid() -> None:
    settings = TrainingSettings.from_yaml(CONFIGS / "training-full.yaml")
    assert settings.lora_rank == 16 and settings.image_size == RCMedConfig.full().image_size


@pytest.mark.parametrize(
    ("changes", "device", "message"),
    [
        ({}, "cpu", "on GPUs only"),
        ({"FSDP_VERSION": "1"}, "cuda", "fsdp_version"),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "cuda", "DeepSpeed"),
    ],
)
def test_what_can_not_be_launched_is_refused_in_words(
    launched: dict[str, str], monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], device: str, message: str
) -> None:
    for name, value in {**launched, "LOCAL_RANK": "0", **changes}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=message):
        Processes(device)


@pytest.mark.integration
def test_shards_learn_what_one_process_learns(
    settings: TrainingSettings, launched: dict[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    settings = settings.model_copy(update={"steps": 3})
    (folder / "full.yaml").write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    fsdp = {name: value for name, value in launched.items() if name.startswith("FSDP_")}
    functions: dict[str, Any] = runpy.run_path(str(WORKER))
    functions["start"](folder, "shards", **fsdp)
    together = load_file(folder / "full.safetensors")
    trainer = Trainer(settings.model_copy(update={"output": tmp_path / "alone"}))
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    alone = functions["take_steps"](trainer, settings.steps)
    functions["assert_same"](together, alone, before)
    # The checkpoint holds whole weights: one process goes on from it, and its model folder is an ordinary one.
    resumed = Trainer(settings)
    assert resumed.step == settings.steps
    for name, value in resumed.model.state_dict().items():
        torch.testing.assert_close(value, together[f"weight.{name}"], rtol=0, atol=0, msg=name)
    RCMedModel.from_pretrained(settings.output / "model")
