"""Which axes of a volume file are its slices, rows and columns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ISOTROPY_TOLERANCE = 0.02
"""Spacings that differ by less than this part of the largest count as equal."""


def acquisition_axes(shape: tuple[int, ...], affine: NDArray[np.float64]) -> tuple[int, int, int]:
    """The file axes that become (slice, row, column).

    Slices go along the axis of the largest spacing; where several are as large, along the one nearest to the patient's
    superior-inferior axis. Within a slice the column index runs along the axis nearest to left-right (front-back in a
    sagittal slice), as a radiologist looks at it. Axes are only chosen, never turned round.

    Args:
        shape: voxels along the three file axes; an axis of length 1 is the slice axis.
        affine: float64 (4, 4) from file voxel indices to LPS mm.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    direction = np.abs(affine[:3, :3]) / np.where(spacing > 0, spacing, 1.0)  # (patient axis L P S, file axis)
    flat = [axis for axis in range(3) if shape[axis] == 1]
    if flat:
        slice_axis = flat[-1]
    else:
        widest = [axis for axis in range(3) if spacing[axis] >= (1 - ISOTROPY_TOLERANCE) * spacing.max()]
        slice_axis = max(widest, key=lambda axis: (round(float(direction[2, axis]), 6), axis))
    first, second = (axis for axis in range(3) if axis != slice_axis)
    # Column is the axis that ranks lower: left-right before front-back before head-feet.
    rank = np.array([0.0, 1.0, 2.0]) @ direction
    column, row = (second, first) if rank[second] < rank[first] - 1e-6 else (first, second)
    return slice_axis, row, column
