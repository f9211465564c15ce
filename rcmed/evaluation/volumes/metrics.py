"""Metrics of one mask of a volume against the truth, in millimetres and millilitres; distances by MONAI."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance
from numpy.typing import NDArray
from scipy import ndimage

from rcmed.image import Grid
from rcmed.measurements import find_parts

HAUSDORFF_PERCENTILE = 95
_NOTHING = float("nan")


@dataclass(frozen=True)
class VolumeScore:
    """Scores of one target in one volume.

    Attributes:
        dice: in [0, 1]; nan where the target is absent from the truth.
        surface_mm: mean symmetric distance of the surfaces; nan where one of the masks is empty, or where the grid has
            no millimetres.
        hausdorff95_mm: 95th percentile of the distance from either surface to the other, the larger one; nan as above.
        found_ml, true_ml: volumes; nan where the grid has no millimetres.
        parts, true_parts: connected parts (26-neighbourhood).
        agreement, true_agreement: see `neighbour_agreement`.
        slices_share: share of the volume's slices that show the target in the truth.
    """

    dice: float
    surface_mm: float
    hausdorff95_mm: float
    found_ml: float
    true_ml: float
    parts: int
    true_parts: int
    agreement: float
    true_agreement: float
    slices_share: float


def score_volume(found: NDArray[np.bool_], truth: NDArray[np.bool_], grid: Grid) -> VolumeScore:
    """Compare bool masks (slice, row, column) of one target on one grid.

    Source: Heimann et al., Comparison and evaluation of methods for liver segmentation from CT, IEEE TMI 2009, for the
    surface distance; Taha and Hanbury, BMC Medical Imaging 2015, for the 95 % Hausdorff distance.
    """
    grid.require_mask(found)
    grid.require_mask(truth)
    sizes = int(found.sum()), int(truth.sum())
    overlap = int((found & truth).sum())
    surface, hausdorff = _distances(found, truth, grid) if min(sizes) and grid.in_millimetres else (_NOTHING, _NOTHING)
    millilitres = grid.voxel_volume / 1000 if grid.in_millimetres else _NOTHING
    return VolumeScore(
        dice=2 * overlap / sum(sizes) if sizes[1] else _NOTHING,
        surface_mm=surface,
        hausdorff95_mm=hausdorff,
        found_ml=sizes[0] * millilitres,
        true_ml=sizes[1] * millilitres,
        parts=count_parts(found),
        true_parts=count_parts(truth),
        agreement=neighbour_agreement(found),
        true_agreement=neighbour_agreement(truth),
        slices_share=float(truth.any(axis=(1, 2)).mean()),
    )


def count_parts(mask: NDArray[np.bool_]) -> int:
    """Connected parts (26-neighbourhood) of a bool mask (slice, row, column)."""
    return len(find_parts(mask).sizes)


def neighbour_agreement(mask: NDArray[np.bool_]) -> float:
    """Mean Dice of the mask's neighbouring slices, from its first slice to its last; a slice left out counts as 0.

    Returns:
        in [0, 1]; nan where the mask is in fewer than two slices.
    """
    shown = np.flatnonzero(mask.any(axis=(1, 2)))
    if len(shown) < 2:
        return _NOTHING
    part = mask[shown[0] : shown[-1] + 1]
    areas = part.sum(axis=(1, 2))
    both = (part[1:] & part[:-1]).sum(axis=(1, 2))
    return float((2 * both / np.maximum(areas[1:] + areas[:-1], 1)).mean())


def _distances(found: NDArray[np.bool_], truth: NDArray[np.bool_], grid: Grid) -> tuple[float, float]:
    """Mean symmetric and 95 % Hausdorff distance of two masks, in mm."""
    (box,) = ndimage.find_objects((found | truth).view(np.uint8))
    # One voxel around, so that what touches the box has a surface there.
    one, other = (torch.from_numpy(np.pad(mask[box], 1))[None, None] for mask in (found, truth))
    surface = compute_average_surface_distance(
        one, other, include_background=True, symmetric=True, spacing=list(grid.spacing)
    )
    hausdorff = compute_hausdorff_distance(
        one, other, include_background=True, percentile=HAUSDORFF_PERCENTILE, spacing=list(grid.spacing)
    )
    return float(surface), float(hausdorff)
