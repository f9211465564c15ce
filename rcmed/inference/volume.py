"""What neighbouring slices say together: presence over the volume, masks consistent across slices."""

from __future__ import annotations

from math import ceil, exp, log

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

# A target of a volume runs through neighbouring slices; a lone slice that claims it is not enough. In thin slices many
# that look alike may err together, so what counts is how far the claim reaches.
PRESENCE_REACH_MM = 10.0
FEWEST_SLICES = 3
SLICES_WITHOUT_MILLIMETRES = 5
# To this power of their number the odds of claims are shared, where the weights say nothing else.
ACCUMULATION = 1.0
# What neighbouring slices, together at least this share of the volume, rather affirm than deny is not absent.
LARGE_SHARE = 0.2
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


def presence_of_volume(smoothed: NDArray[np.float32], window: int, accumulation: float = ACCUMULATION) -> float:
    """Presence of a volume from that of its slices: as its slices say together, however many it takes to say it.

    Of any number of slices, from the surest one on, the mean is a claim; its odds are shared among as many as there
    could be beside it (`presence_of_best`): what runs through much of a volume shares its odds with few. Slices that
    rather say yes than no may bear each other out besides: to the power of `accumulation`.

    Args:
        smoothed: float32 (slice,), each the mean of a window of neighbouring slices.
        window: their number.
        accumulation: 0 to 1; 1: no slice bears out another.
    """
    surest = np.sort(smoothed.astype(np.float64))[::-1]
    counts = np.arange(1, len(surest) + 1)
    means = np.minimum(surest.cumsum() / counts, 1.0)
    beside = len(surest) / np.maximum(counts, min(window, len(surest)))
    powers = np.where(means > 0.5, accumulation, 1.0)
    return max(presence_of_best(float(m), float(w)) for m, w in zip(means, beside**powers, strict=True))


def as_of_a_slice(presence: float, of_volumes: tuple[float, float], of_slices: tuple[float, float]) -> float:
    """Presence of a volume in the measure of slices, so that the same thresholds make words of it.

    Log-odds run straight from the thresholds of volumes to those of slices.

    Args:
        presence: 0 to 1, of a volume (`presence_of_volume`).
        of_volumes: (absent below, found from) of such presence, the second the larger.
        of_slices: (absent below, found from) of slices.
    """
    (low, high), (to_low, to_high) = ((log_odds(end) for end in ends) for ends in (of_volumes, of_slices))
    value = to_low + (log_odds(presence) - low) * (to_high - to_low) / (high - low)
    return 1 / (1 + exp(-value))


def log_odds(probability: float) -> float:
    """Of a probability, which counts as no surer than one in a million."""
    likely = min(max(probability, 1e-6), 1 - 1e-6)
    return log(likely / (1 - likely))


def runs_through(presence: NDArray[np.float32], window: int) -> bool:
    """Whether neighbouring slices, a fifth of the volume and a window at least, rather say yes than no in the mean.

    Args:
        presence: float32 (slice,), as the weights say.
        window: slices that are judged together.
    """
    length = max(ceil(LARGE_SHARE * len(presence)), min(window, len(presence)))
    sums = np.concatenate([[0.0], presence.astype(np.float64).cumsum()])
    return bool(((sums[length:] - sums[:-length]) / length).max() > 0.5)


def drop_islands(mask: NDArray[np.bool_], share: float = ISLAND_SHARE, most: int | None = None) -> NDArray[np.bool_]:
    """Remove parts (26-neighbourhood) smaller than `share` of the largest part, and those beyond the `most` largest.

    Of parts of one size all are kept, so that the order in which slices are stored decides nothing.
    """
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
    least = share * sizes.max()
    if most is not None and most < count:
        least = max(least, np.sort(sizes)[-most])
    kept[window] = (sizes >= least)[labels] & mask[window]
    return kept
