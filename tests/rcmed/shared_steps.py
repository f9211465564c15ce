"""One of several processes that `test_shared_training.py` starts: it takes a few steps, the main one writes results.

torchrun --nproc-per-node 2 shared_steps.py FOLDER     (settings: FOLDER/*.yaml, results beside them)
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from rcmed.training.processes import Processes, whole
from rcmed.training.settings import TrainingSettings
from rcmed.training.trainer import Trainer


def take_steps(trainer: Trainer, count: int) -> dict[str, torch.Tensor]:
    """Losses of every step, the gradients of the first one, and the weights after the last one."""
    found: dict[str, torch.Tensor] = {}
    for step in range(count):
        found |= {f"loss.{step}.{name}": torch.tensor(value) for name, value in trainer.train_step().items()}
        if step == 0:
            gradients = {name: each.grad for name, each in trainer.model.named_parameters() if each.grad is not None}
            found |= {f"gradient.{name}": whole(value) for name, value in gradients.items()}
    found |= {f"weight.{name}": whole(value) for name, value in trainer.model.state_dict().items()}
    return {name: value.clone().contiguous() for name, value in found.items()}


if __name__ == "__main__":
    together = Processes("cpu")
    for path in sorted(Path(sys.argv[1]).glob("*.yaml")):
        settings = TrainingSettings.from_yaml(path)
        results = take_steps(Trainer(settings, processes=together), settings.steps)
        if together.is_main:
            save_file(results, path.with_suffix(".safetensors"))
