"""The course of a run: losses, learning rate and speed, as lines of JSON and in TensorBoard."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from torch.utils.tensorboard import SummaryWriter

STEPS_PER_POINT = 50


class Curve:
    """Writes `curve.jsonl` and `tensorboard/` into a folder; a process that is not to write gives is_kept=False."""

    def __init__(self, folder: Path, is_kept: bool = True) -> None:
        self._lines = (folder / "curve.jsonl").open("a") if is_kept else None
        self._board = SummaryWriter(str(folder / "tensorboard")) if is_kept else None
        self._started = self._last = time.monotonic()
        self._recent: list[Mapping[str, float]] = []
        self._images = 0

    def add(self, step: int, terms: Mapping[str, float], learning_rate: float, images: int) -> None:
        """Note a step; every fiftieth the means of what was noted since are written.

        Args:
            step: how many were taken.
            terms: of the loss.
            learning_rate: of the step.
            images: that the step trained on, in all processes together.
        """
        if self._lines is None or self._board is None:
            return
        self._recent.append(terms)
        self._images += images
        if step % STEPS_PER_POINT != 0:
            return
        now = time.monotonic()
        means = {name: round(float(np.mean([each[name] for each in self._recent])), 4) for name in self._recent[0]}
        speed = round(self._images / (now - self._last), 2)
        point = {"step": step, "seconds": round(now - self._started, 1), "images_per_second": speed}
        self._lines.write(json.dumps(means | point | {"learning_rate": learning_rate}) + "\n")
        self._lines.flush()
        for name, value in means.items():
            self._board.add_scalar(f"training/{name}", value, step)  # type: ignore[no-untyped-call]
        self._board.add_scalar("training/learning_rate", learning_rate, step)  # type: ignore[no-untyped-call]
        self._board.add_scalar("training/images_per_second", speed, step)  # type: ignore[no-untyped-call]
        self._recent, self._images, self._last = [], 0, now

    def add_validation(self, step: int, dice: Mapping[str, float]) -> None:
        """Note the mean Dice of each target on what is held out."""
        if self._board is not None:
            for name, value in dice.items():
                self._board.add_scalar(f"validation/dice/{name}", value, step)  # type: ignore[no-untyped-call]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lines is not None and self._board is not None:
            self._lines.close()
            self._board.close()  # type: ignore[no-untyped-call]
