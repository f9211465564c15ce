"""Masks, label maps and examples onto the voxels of an image: the one place where two grids are compared.

What lies on the same voxels is brought into the image's order, whatever the order and direction of its own axes, and
cropped or padded; nothing is resampled, and nothing is taken by its shape where both say their place.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcmed.errors import GridMismatchError
from rcmed.image import Grid

POSITION_TOLERANCE = 0.25
"""Largest distance of a voxel from the image's voxel that it is taken for, in voxels: positions are stored rounded."""


def bring_onto(values: NDArray[Any], affine: NDArray[np.float64] | None, grid: Grid, name: str) -> NDArray[Any]:
    """The same voxels on another grid, of which they are a part; axes may be swapped and turned.

    Args:
        values: (first, second, third); of a picture or a file that says no place: (column, row, slice).
        affine: float64 (4, 4) from these axes to LPS mm; None: nothing is known of their place.
        grid: of the image.
        name: for the message.
    Returns:
        (slice, row, column); 0 where `values` does not reach.
    Raises:
        GridMismatchError: spacing, orientation or position differ, or something lies outside of the grid.
    """
    turned = None
    if not grid.in_patient_coordinates and values.shape == grid.shape[::-1]:
        # A picture has no place in the patient: viewers invent one, but keep columns, rows and slices.
        turned = np.transpose(values)
    elif affine is not None:
        turned = _by_position(values, affine, grid)
    if turned is None:
        raise GridMismatchError(
            f"{name}: its voxels of shape {values.shape} do not lie on those of the image, {grid.shape[::-1]} (another "
            "size, spacing, orientation or position); draw it on the image itself"
        )
    return np.ascontiguousarray(turned)


def _by_position(values: NDArray[Any], affine: NDArray[np.float64], grid: Grid) -> NDArray[Any] | None:
    to_grid = np.linalg.inv(grid.affine) @ affine
    for axis in np.flatnonzero(np.array(values.shape) == 1):
        # How thick a single slice is, viewers do not agree on; its place and direction count.
        to_grid[:3, axis] /= np.abs(to_grid[:3, axis]).max()
    turn = np.round(to_grid[:3, :3])
    if not (np.abs(turn).sum(0) == 1).all() or not (np.abs(turn).sum(1) == 1).all():
        return None
    last = np.array(values.shape) - 1
    corners = np.array([[i, j, k] for i in (0, last[0]) for j in (0, last[1]) for k in (0, last[2])])
    exact = corners @ to_grid[:3, :3].T + to_grid[:3, 3]
    places = corners @ turn.T + np.round(to_grid[:3, 3])
    if np.abs(exact - places).max() > POSITION_TOLERANCE:
        return None
    axes = np.abs(turn).argmax(1)  # for each axis of the grid, that of the file
    turned = np.transpose(values, axes)
    turned = turned[tuple(slice(None, None, int(turn[axis, axes[axis]])) for axis in range(3))]
    first = places.min(0).astype(int)
    source, target = [], []
    for start, length, available in zip(first, turned.shape, grid.shape, strict=True):
        low, high = max(start, 0), min(start + length, available)
        if low >= high:
            return None
        source.append(slice(low - start, high - start))
        target.append(slice(low, high))
    inside = turned[tuple(source)]
    if np.count_nonzero(inside) != np.count_nonzero(turned):
        return None
    whole = np.zeros(grid.shape, dtype=values.dtype)
    whole[tuple(target)] = inside
    return whole
