"""What neighbouring slices say together: presence over the volume, masks consistent across slices."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

# A target of a volume runs through neighbouring slices; a lone slice that claims it is not enough. In thin slices many
# that look alike may err together, so what counts is how far the claim reaches.
PRESENCE_REACH_MM = 10.0
FEWEST_SLICES = 3
SLICES_WITHOUT_MILLIMETRES = 5
# Parts smaller than this share of the largest part of a mask are islands.
ISLAND_SHARE = 0.02


def presence_window(distance_mm: float | None) -> int:
    """Number of neighbouring slices whose presence is averaged, odd.

    Args:
        distance_mm: between slices; None where it is not known.
    """
    if distance_mm is None:
        return SLICES_WITHOUT_MILLIMETRES
    return max(FEWEST_SLICES, 2 * round(PRESENCE_REACH_MM / distance_mm / 2) + 1)


def smooth(values: NDArray[np.float32], window: int) -> NDArray[np.float32]:
    """Mean of a window of neighbouring slices, float32 (slice,), of values of slices."""
    smoothed: NDArray[np.float32] = ndimage.uniform_filter1d(values, window, mode="nearest")
    return smoothed


def presence_of_best(best: float, windows: float) -> float:
    """Presence of a volume, whose best window of slices has `best`.

    Presence was learned with even odds for each slice asked. Of the many windows of a volume the best one is picked,
    and the more there are, the more often one of them claims what is not there: its odds are shared among them, as
    Bonferroni shares a level of significance.

    Args:
        best: 0 to 1.
        windows: how many of them fit into the volume side by side, at least 1.
    """
    return best / (best + windows * (1 - best))


def drop_islands(mask: NDArray[np.bool_], share: float = ISLAND_SHARE) -> NDArray[np.bool_]:
    """Remove parts (26-neighbourhood) smaller than `share` of the largest part."""
    if not mask.any():
        return mask
    # Labels take four times the memory of the mask: only the box around it is labelled.
    window = ndimage.find_objects(mask.view(np.uint8))[0]
    labels, count = ndimage.label(mask[window], structure=np.ones((3,) * mask.ndim, dtype=bool))
    if count < 2:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    kept = np.zeros_like(mask)
    kept[window] = (sizes >= share * sizes.max())[labels] & mask[window]
    return kept
