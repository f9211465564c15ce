"""Clicks, boxes and rough masks as a user might give them, drawn from the true masks."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from rcmed.model.grounding.hint_prompts import MASK_STRIDE, PlacedHints, PointLabel
from rcmed.model.processor import ROUGH_MASK_LOGIT

_POINTS = 4
_MOST_CLICKS = 3
# By how much of its size a box is drawn too large, too small or beside.
_BOX_ERROR = 0.08
# Outside clicks are drawn this near to the target, in pixels: that is where a mask goes wrong.
_NEAR = 12
_ROUGHEST = 9


def simulate_hints(masks: Tensor, present: Tensor, generator: np.random.Generator) -> PlacedHints:
    """A hint for each prompt whose target is there, and none for the others.

    Args:
        masks: bool (prompt, size, size).
        present: bool (prompt,).
        generator: of everything random.
    """
    count, size = masks.shape[0], masks.shape[-1]
    points = torch.zeros(count, _POINTS, 2)
    labels = torch.full((count, _POINTS), int(PointLabel.NONE), dtype=torch.long)
    rough = torch.zeros(count, size // MASK_STRIDE, size // MASK_STRIDE)
    has_mask = torch.zeros(count, dtype=torch.bool)
    for index in torch.nonzero(present).flatten().tolist():
        mask = masks[index].numpy()
        kind = generator.integers(3)
        if kind == 0:
            places, said = _clicks(mask, generator)
        elif kind == 1:
            places, said = _box(mask, generator), [PointLabel.FIRST_CORNER, PointLabel.LAST_CORNER]
        else:
            rough[index], has_mask[index] = _roughen(masks[index], generator), True
            continue
        points[index, : len(places)] = torch.from_numpy(places[:, ::-1].astype(np.float32).copy())
        labels[index, : len(said)] = torch.tensor([int(label) for label in said])
    return PlacedHints(points, labels, rough, has_mask)


def _clicks(mask: NDArray[np.bool_], generator: np.random.Generator) -> tuple[NDArray[np.float64], list[PointLabel]]:
    """(row, column) of clicks inside, and at times one beside."""
    inside = np.argwhere(mask)
    chosen = inside[generator.integers(len(inside), size=generator.integers(1, _MOST_CLICKS + 1))]
    said = [PointLabel.INSIDE] * len(chosen)
    if generator.random() < 0.4:
        wide = F.max_pool2d(torch.from_numpy(mask)[None].float(), 2 * _NEAR + 1, 1, _NEAR)[0].numpy() > 0
        beside = np.argwhere(wide & ~mask)
        if len(beside):
            chosen = np.concatenate([chosen, beside[generator.integers(len(beside), size=1)]])
            said.append(PointLabel.OUTSIDE)
    return chosen.astype(np.float64), said


def _box(mask: NDArray[np.bool_], generator: np.random.Generator) -> NDArray[np.float64]:
    """First and last corner, (row, column) each."""
    covered = np.argwhere(mask)
    corners = np.stack([covered.min(0), covered.max(0)]).astype(np.float64)
    corners += generator.normal(0, _BOX_ERROR, size=(2, 2)) * (corners[1] - corners[0] + 1)
    return np.clip(np.sort(corners, axis=0), 0, np.array(mask.shape) - 1)


def _roughen(mask: Tensor, generator: np.random.Generator) -> Tensor:
    """Logits at `MASK_STRIDE` of the mask, grown, shrunk, moved or cut."""
    width = 2 * int(generator.integers(0, _ROUGHEST // 2 + 1)) + 1
    wide = mask[None].float()
    sign = 1 if generator.random() < 0.5 else -1
    changed = sign * F.max_pool2d(sign * wide, width, 1, width // 2)
    shift = tuple(int(step) for step in generator.integers(-_ROUGHEST // 2, _ROUGHEST // 2 + 1, size=2))
    changed = torch.roll(changed, shift, dims=(-2, -1))
    return (F.avg_pool2d(changed, MASK_STRIDE)[0] * 2 - 1) * ROUGH_MASK_LOGIT
