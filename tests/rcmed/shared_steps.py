"""One of several processes that `test_shared_training.py` starts: it takes a few steps, the main one writes results.

torchrun --nproc-per-node 2 shared_steps.py FOLDER [shards]     (settings: FOLDER/*.yaml, results beside them)
"""

import os
import subprocess
import sys
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from safetensors.torch import save_file

from rcmed.training.processes import Processes, own_part, whole
from rcmed.training.settings import TrainingSettings
from rcmed.training.trainer import Trainer

Found = dict[str, torch.Tensor]


def start(folder: Path, *arguments: str, **environment: str) -> None:
    """Run two processes of this file on a folder, and wait for them."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", __file__]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **environment}
    done = subprocess.run(
        [*command, str(folder), *arguments], env=variables, capture_output=True, text=True, timeout=250
    )
    assert done.returncode == 0, done.stdout + done.stderr


def take_steps(trainer: Trainer, count: int) -> Found:
    """Losses of every step, the gradients of the first one, and the weights after the last one."""
    found: Found = {}
    for step in range(count):
        found |= {f"loss.{step}.{name}": torch.tensor(value) for name, value in trainer.train_step().items()}
        if step == 0:
            gradients = {name: each.grad for name, each in trainer.model.named_parameters() if each.grad is not None}
            found |= {f"gradient.{name}": whole(value) for name, value in gradients.items()}
    found |= {f"weight.{name}": whole(value) for name, value in trainer.model.state_dict().items()}
    return {name: value.clone().contiguous() for name, value in found.items()}


def assert_same(together: Found, alone: Found, before: Found) -> None:
    """Compare what `take_steps` gave in several processes and in one, which both started from the same weights."""
    assert together.keys() == alone.keys()
    largest = max(float(value.abs().max()) for name, value in alone.items() if name.startswith("gradient."))
    for name, value in alone.items():
        if name.startswith("loss."):
            torch.testing.assert_close(together[name], value, rtol=1e-3, atol=1e-5, msg=name)
        elif name.startswith("gradient."):
            torch.testing.assert_close(together[name], value, rtol=1e-3, atol=1e-5 * largest, msg=name)
    # Adam makes steps of gradients that are nothing but rounding: single weights may differ, few do.
    weights = {name.removeprefix("weight."): value for name, value in alone.items() if name.startswith("weight.")}
    moved = sum(float((value - before[name]).abs().sum()) for name, value in weights.items())
    apart = sum(float((value - together[f"weight.{name}"]).abs().sum()) for name, value in weights.items())
    assert apart < 0.01 * moved, (apart, moved)


def assert_resumed(resumed: Trainer, trainer: Trainer) -> None:
    """Every shard is that of the trainer which wrote the checkpoint."""
    assert resumed.step == trainer.step
    for one, other in ((resumed.model.state_dict(), trainer.model.state_dict()), (resumed.averaged, trainer.averaged)):
        assert not [name for name, value in other.items() if not torch.equal(own_part(one[name]), own_part(value))]
    for parameter, own in zip(resumed.model.parameters(), trainer.model.parameters(), strict=True):
        for name, value in trainer.optimiser.state.get(own, {}).items():
            assert torch.equal(own_part(resumed.optimiser.state[parameter][name]), own_part(value)), name


def cut_into_shards(processes: Processes) -> None:
    """What `accelerate` does on GPUs where its configuration says so (FSDP_...); on CPUs it never does."""
    assert processes._accelerator is not None
    state = processes._accelerator.state
    state.fsdp_plugin = FullyShardedDataParallelPlugin()
    state.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP
    assert processes.holds_shards


if __name__ == "__main__":
    together = Processes("cpu")
    if "shards" in sys.argv[2:]:
        cut_into_shards(together)
    for path in sorted(Path(sys.argv[1]).glob("*.yaml")):
        settings = TrainingSettings.from_yaml(path)
        trainer = Trainer(settings, processes=together)
        results = take_steps(trainer, settings.steps)
        assert together.holds_shards == ("shards" in sys.argv[2:])
        if together.holds_shards:
            trainer.save_checkpoint()
            together.wait()
            assert_resumed(Trainer(settings, processes=together), trainer)
        if together.is_main:
            save_file(results, path.with_suffix(".safetensors"))
