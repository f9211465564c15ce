"""What a run needs to go on: weights, averages and the optimiser's moments in one safetensors file.

It holds whole tensors, whatever the number of processes was; a run may go on with another one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from rcmed.durable_files import replaced
from rcmed.training.processes import fill, like, whole

CHECKPOINT = "checkpoint.safetensors"


def write_checkpoint(
    path: Path, step: int, model: nn.Module, averaged: dict[str, Tensor], optimiser: Any, is_writer: bool
) -> None:
    """Write a checkpoint; atomic. All processes must call it, one of them writes."""
    tensors = {}
    for name, value in _named(model, averaged, optimiser):
        together = whole(value)
        if is_writer:
            tensors[name] = together.cpu().contiguous()
    if not is_writer:
        return
    with replaced(path) as part:
        save_file(tensors, part, metadata={"step": str(step)})


def _named(model: nn.Module, averaged: dict[str, Tensor], optimiser: Any) -> Iterator[tuple[str, Tensor]]:
    yield from ((f"model.{name}", value) for name, value in model.state_dict().items())
    yield from ((f"averaged.{name}", value) for name, value in averaged.items())
    for index, state in optimiser.state_dict()["state"].items():
        # They may be views of one another, which can't be written.
        yield from ((f"optimiser.{index}.{key}", value.clone()) for key, value in state.items())


def resume(path: Path, model: nn.Module, averaged: dict[str, Tensor], optimiser: Any) -> int:
    """Read a checkpoint into all three, if there is one; returns the step after which it was written."""
    if not path.exists():
        return 0
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    with safe_open(path, "pt") as opened:
        for prefix, into in (("model", model.state_dict()), ("averaged", averaged)):
            for name, value in into.items():
                fill(value, opened.get_tensor(f"{prefix}.{name}"))
        for key in opened.keys():
            if key.startswith("optimiser."):
                _, index, name = key.split(".", 2)
                value = opened.get_tensor(key)
                # The fused optimiser walks parameters and moments side by side in memory: both must be laid out alike.
                is_moment = name in ("exp_avg", "exp_avg_sq")
                state.setdefault(int(index), {})[name] = like(value, parameters[int(index)]) if is_moment else value
        step = int(opened.metadata()["step"])
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    return step
