"""Metrics of one mask against the truth, by MONAI."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from monai.metrics import compute_dice, compute_iou, compute_surface_dice
from numpy.typing import NDArray

# Normalised surface distance: borders within this many pixels agree.
SURFACE_TOLERANCE_PIXELS = 2.0


@dataclass(frozen=True)
class MaskScore:
    """Scores of one (image, target) pair.

    Attributes:
        dice, iou: in [0, 1]; nan where the target is absent from the truth.
        nsd: normalised surface distance at 2 pixels, in [0, 1]; nan where absent.
    """

    dice: float
    iou: float
    nsd: float


def score_mask(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> MaskScore:
    """Compare bool masks (row, column) of one target that is in the image."""
    if not truth.any():
        return MaskScore(float("nan"), float("nan"), float("nan"))
    if not found.any():
        return MaskScore(0.0, 0.0, 0.0)
    one = torch.from_numpy(np.ascontiguousarray(found))[None, None]
    other = torch.from_numpy(np.ascontiguousarray(truth))[None, None]
    return MaskScore(
        dice=float(compute_dice(one, other)),
        iou=float(compute_iou(one, other)),
        nsd=float(compute_surface_dice(one, other, [SURFACE_TOLERANCE_PIXELS], include_background=True)),
    )


def presence_auroc(scores: NDArray[np.float64], present: NDArray[np.bool_]) -> float:
    """Area under the ROC curve of presence; nan where only one kind is there."""
    if present.all() or not present.any():
        return float("nan")
    from monai.metrics import compute_roc_auc

    area = compute_roc_auc(torch.from_numpy(scores), torch.from_numpy(present.astype(np.int64)))
    return float(np.asarray(area))
