"""The processes of a run: one, or as many as `accelerate launch` or `torchrun` started."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.distributed.tensor import DTensor, distribute_tensor

from rcmed.errors import ConfigurationError

# The others wait while one converts a user's images or writes a large checkpoint.
_LONGEST_WAIT = timedelta(hours=2)


class Processes:
    """This process among those of its run.

    Started alone it touches nothing of `accelerate`, and runs as on its own. Started with others it is one of
    `accelerate`'s, whose configuration says how: replicated (DDP) or, on GPUs, in shards (FSDP version 2).

    Attributes:
        device: where this process computes.
        index, count: which of how many it is.
    """

    def __init__(self, device: str = "cpu") -> None:
        """Join the others, if there are any.

        Args:
            device: "cpu" or "cuda"; of several processes each takes a GPU of its own.
        Raises:
            ConfigurationError: shards are asked for on CPUs, in FSDP's first version, or of DeepSpeed.
        """
        self._accelerator = _join(device) if int(os.environ.get("LOCAL_RANK", -1)) >= 0 else None
        self.device = torch.device(device) if self._accelerator is None else self._accelerator.device
        self.index = 0 if self._accelerator is None else self._accelerator.process_index
        self.count = 1 if self._accelerator is None else self._accelerator.num_processes

    @property
    def is_main(self) -> bool:
        """Whether it is the one that writes and tells."""
        return self.index == 0

    @property
    def holds_shards(self) -> bool:
        """Whether each process holds a part of the weights only."""
        return self._accelerator is not None and self._accelerator.is_fsdp2

    def share(self, count: int) -> range:
        """Which of so many things are this process's: a range; all processes together have each once."""
        return range(count * self.index // self.count, count * (self.index + 1) // self.count)

    def prepare(
        self, training_pass: nn.Module, optimiser: torch.optim.Optimizer, precision: str
    ) -> tuple[nn.Module, Any]:
        """Replicate or shard a module, so that its gradients are the means over the processes; alone it stays as it is.

        Args:
            training_pass: its parameters are on `device`.
            optimiser: of its parameters.
            precision: "bf16" or "fp32", of the weights that shards are put together to.
        Returns:
            the module to call and the optimiser to step; shards replace the parameters in both.
        """
        if self._accelerator is None:
            return training_pass, optimiser
        if self.holds_shards and precision == "bf16":
            policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
            self._accelerator.state.fsdp_plugin.mixed_precision_policy = policy
        prepared = self._accelerator.prepare(training_pass, optimiser)
        return prepared[0], prepared[1]

    def total(self, values: Tensor) -> Tensor:
        """The sum over the processes."""
        if self.count == 1 or self._accelerator is None:
            return values
        summed = self._accelerator.reduce(values, "sum")
        assert isinstance(summed, Tensor)
        return summed

    def gather(self, items: list[Any]) -> list[Any]:
        """The items of all processes, in the order of the processes."""
        return items if self.count == 1 else list(gather_object(items))

    def wait(self) -> None:
        """Until every process is here."""
        if self._accelerator is not None:
            self._accelerator.wait_for_everyone()

    def end(self) -> None:
        """Part from the others, after the last thing done together."""
        if self._accelerator is not None:
            self._accelerator.end_training()


def whole(tensor: Tensor) -> Tensor:
    """A tensor put together from its shards; one that has none as it is. All processes must ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def own_part(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor: its shard, or all of it."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def fill(tensor: Tensor, value: Tensor) -> None:
    """Write a whole value into a tensor, or into this process's shard of it."""
    if isinstance(tensor, DTensor):
        value = distribute_tensor(
            value.to(tensor.device), tensor.device_mesh, tensor.placements, src_data_rank=None
        ).to_local()
    own_part(tensor).copy_(value)


def like(value: Tensor, tensor: Tensor) -> Tensor:
    """A whole value, laid out and cut into shards as a tensor is."""
    made = torch.empty_like(tensor)
    fill(made, value)
    return made


def _join(device: str) -> Accelerator:
    if os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() == "true":
        raise ConfigurationError("DeepSpeed is not supported; launch with configs/accelerate-fsdp.yaml instead")
    in_shards = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    if in_shards and device == "cpu":
        raise ConfigurationError("FSDP: `accelerate` shards on GPUs only; add --device cuda, or launch without FSDP")
    if in_shards and os.environ.get("FSDP_VERSION", "1") != "2":
        raise ConfigurationError("fsdp_version: version 1 is not supported; set it to 2 in accelerate's configuration")
    # Autocast is the trainer's own, whatever accelerate's configuration says of mixed precision.
    return Accelerator(
        cpu=device == "cpu",
        mixed_precision="no",
        kwargs_handlers=[
            # What answers clicks, or the loop, has no part in some steps.
            DistributedDataParallelKwargs(find_unused_parameters=True),
            InitProcessGroupKwargs(timeout=_LONGEST_WAIT),
        ],
    )
