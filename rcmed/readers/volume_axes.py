"""Which axes of a volume file are its slices, rows and columns."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from rcmed.modality import Modality

ISOTROPY_TOLERANCE = 0.02
"""Spacings that differ by less than this part of the largest count as equal."""
AXIAL = frozenset({Modality.CT, Modality.PET})
"""Modalities whose slices the weights saw from head to feet only, whatever the spacing."""
MOST_STRETCHED = 2.5
"""Largest ratio of a slice's two spacings: slices cut across thick ones show no organ in its shape."""


def slicing_axes(shape: tuple[int, ...], affine: NDArray[np.float64], modality: Modality) -> tuple[int, int, int]:
    """The file axes that become (slice, row, column).

    A model knows organs in the planes that it was shown. CT and PET are learned in axial slices: they are cut along the
    axis nearest to the patient's superior-inferior one, also where the spacing within a slice is the larger, as in PET.
    Only a volume that is made of thick slices in another plane (a coronal reformat), of which axial cuts would be
    stretched more than `MOST_STRETCHED`, is cut as it was acquired, and so is everything else: along the axis of the
    largest spacing or, where several are as large, the one nearest to superior-inferior.
    Within a slice the column index runs along the axis nearest to left-right (front-back in a sagittal slice), as a
    radiologist looks at it. Axes are only chosen, never turned round.

    Args:
        shape: voxels along the three file axes; an axis of length 1 is the slice axis.
        affine: float64 (4, 4) from file voxel indices to LPS mm.
        modality: of the image.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    direction = np.abs(affine[:3, :3]) / np.where(spacing > 0, spacing, 1.0)  # (patient axis L P S, file axis)
    flat = [axis for axis in range(3) if shape[axis] == 1]
    axial = _nearest_to_head_feet(direction, range(3))
    if flat:
        slice_axis = flat[-1]
    elif modality in AXIAL and _stretch(spacing, axial) <= MOST_STRETCHED:
        slice_axis = axial
    else:
        widest = [axis for axis in range(3) if spacing[axis] >= (1 - ISOTROPY_TOLERANCE) * spacing.max()]
        slice_axis = _nearest_to_head_feet(direction, widest)
    first, second = (axis for axis in range(3) if axis != slice_axis)
    # Column is the axis that ranks lower: left-right before front-back before head-feet.
    rank = np.array([0.0, 1.0, 2.0]) @ direction
    column, row = (second, first) if rank[second] < rank[first] - 1e-6 else (first, second)
    return slice_axis, row, column


def _nearest_to_head_feet(direction: NDArray[np.float64], axes: Iterable[int]) -> int:
    return max(axes, key=lambda axis: (round(float(direction[2, axis]), 6), axis))


def _stretch(spacing: NDArray[np.float64], slice_axis: int) -> float:
    within = np.delete(spacing, slice_axis)
    return float(within.max() / max(within.min(), 1e-12))
