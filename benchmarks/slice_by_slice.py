"""Score volumes as `rcmed evaluate VOLUMES` does, their slices read each on its own: what joining them is worth.

python benchmarks/slice_by_slice.py VOLUMES OUTPUT [MODEL [TRAINED_INDEX]]

Each slice keeps its own mask, islands in three dimensions are dropped, and presence is that of the best window of
slices alone, as it was before slices made one mask; weights, anatomy and everything else are the same.
"""

from __future__ import annotations

import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from rcmed.commands.evaluate_volumes import evaluate_volumes
from rcmed.inference.answers import VolumeAnswers
from rcmed.inference.decision import PresenceRule
from rcmed.inference.volume import presence_of_best

PICTURES = 1


class OwnMasks(VolumeAnswers):
    """Answers of slices that are kept as masks."""

    @classmethod
    def empty(cls, targets: int, slices: int, rows: int, columns: int, *_: object) -> VolumeAnswers:
        """As `VolumeAnswers`, without logits."""
        return VolumeAnswers.empty(targets, slices, rows, columns)


def best_window_alone(_: PresenceRule, smoothed: NDArray[np.float32], window: int) -> float:
    """Presence of a volume by its surest window."""
    return presence_of_best(float(smoothed.max()), max(1.0, len(smoothed) / window))


def main(volumes: Path, output: Path, model: str = "small", trained: str | None = None) -> None:
    with (
        patch("rcmed.assistant.VolumeAnswers", OwnMasks),
        patch.object(PresenceRule, "presence_of_volume", best_window_alone),
        patch("rcmed.inference.decision.runs_through", return_value=False),
        patch("rcmed.assistant.body_boxes", return_value=()),
    ):
        evaluate_volumes(volumes, output, model, "cpu", PICTURES, None if trained is None else Path(trained), False)


if __name__ == "__main__":
    if not 3 <= len(sys.argv) <= 5:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
