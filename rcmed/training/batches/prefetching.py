"""Batches made ahead by processes of their own, in the order of the steps: a GPU is faster than what feeds it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

Made = TypeVar("Made")
_AHEAD = 3


class _MadeBySteps(Dataset[Made]):
    """What a function makes of a step's number."""

    def __init__(self, make: Callable[[int], Made]) -> None:
        self._make = make

    def __getitem__(self, step: int) -> Made:
        return self._make(step)


def made_ahead(make: Callable[[int], Made], steps: range, workers: int, pinned: bool = False) -> Iterator[Made]:
    """What `make` makes of each step, in their order, whatever the number of workers.

    Args:
        make: a function of the step alone; in a worker, a fork of this process, it must not touch a GPU.
        steps: of which something is wanted.
        workers: processes; 0: it is made here, when it is asked for.
        pinned: in memory that a GPU copies from while it computes (its own `pin_memory`).
    """
    if workers == 0 or len(steps) == 0:
        yield from map(make, steps)
        return
    yield from DataLoader(
        _MadeBySteps(make),
        batch_size=None,
        sampler=steps,
        num_workers=workers,
        prefetch_factor=_AHEAD,
        pin_memory=pinned,
        # The images are in memory once, not once for each worker.
        multiprocessing_context="fork",
        worker_init_fn=_use_one_thread,
    )


def _use_one_thread(_: int) -> None:
    torch.set_num_threads(1)
