"""One mask in three dimensions from the logits of slices: smoothed across slices, grown from what is sure, in parts."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from rcmed.inference.packed_logits import HIGHEST, PackedLogits
from rcmed.inference.volume import drop_islands
from rcmed.inference.volume_rule import Joining
from rcmed.model.processor import resized_shape, to_image_grid
from rcmed.vocabulary import Target

_NEIGHBOURS = np.ones((3, 3, 3), dtype=bool)
# Presence nearer to 0 or 1 than this is as good as this.
_SUREST = 0.99


JOINING = Joining()
SIGMA_WITHOUT_MILLIMETRES = 1.0
"""Standard deviation in slices where their distance is not known."""


def join_slices(
    logits: NDArray[np.float32], presence: NDArray[np.float32], distance_mm: float | None, joining: Joining = JOINING
) -> NDArray[np.float32]:
    """Let neighbouring slices speak for each other, float32 (slice, r, c); the logits given may be overwritten.

    The same slices in reverse order give the same, in reverse order.

    Args:
        logits: float32 (slice, r, c) on any grid that all slices share; slices nowhere above -8 do not show the target.
        presence: float32 (slice,), 0 to 1; NaN where the weights have none.
        distance_mm: between slices; None where it is not known.
    """
    if not np.isnan(presence).any() and joining.presence_weight:
        likely = np.clip(presence.astype(np.float64), 1 - _SUREST, _SUREST)
        odds = np.log(likely / (1 - likely))
        may_show = (logits > -HIGHEST).any(axis=(1, 2))
        surest = np.quantile(odds[may_show] if may_show.any() else odds, joining.surest_quantile)
        logits += (joining.presence_weight * np.minimum(odds - surest, 0.0)).astype(np.float32)[:, None, None]
    sigma = joining.smoothing_mm / distance_mm if distance_mm else min(joining.smoothing_mm, SIGMA_WITHOUT_MILLIMETRES)
    if sigma <= 0 or len(logits) < 2:
        return logits
    smoothed: NDArray[np.float32] = ndimage.gaussian_filter1d(logits, sigma, axis=0, mode="nearest", truncate=3.0)
    return smoothed


def keep_parts(
    logits: NDArray[np.float32], parts: int | None, least_voxels: float, joining: Joining = JOINING
) -> NDArray[np.float32]:
    """Press logits of parts that are not the target's below the threshold of growth; in place, and returned.

    A part is connected (26-neighbourhood) above `growth`. It is kept where it reaches `seed` and is no island, and
    belongs to the `parts` that have most logit above the threshold.

    Args:
        logits: float32 (slice, r, c).
        parts: how many a target has at most; None: any number.
        least_voxels: smallest part, in voxels of this grid; where none is larger, the largest one counts.
    """
    is_grown = logits > joining.growth
    boxes = ndimage.find_objects(is_grown.view(np.uint8))
    if not boxes:
        return logits
    window = boxes[0]
    # Labels take four times the memory of the mask: only the box around it is labelled.
    labels, count = ndimage.label(is_grown[window], structure=_NEIGHBOURS)
    numbers = np.arange(1, count + 1)
    values = logits[window]
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    is_kept = np.asarray(ndimage.maximum(values, labels, numbers)) > joining.seed
    is_kept &= sizes >= joining.island_share * sizes.max()
    if (sizes >= least_voxels).any():
        is_kept &= sizes >= least_voxels
    if parts is not None and is_kept.sum() > parts:
        weights = np.where(is_kept, ndimage.sum(values - joining.growth, labels, numbers), -np.inf)
        is_kept = weights >= np.sort(weights)[-parts]
    is_other = ~np.concatenate([[True], is_kept])[labels]
    values[is_other & (labels > 0)] = joining.growth - 1.0
    return logits


def volume_mask(
    logits: PackedLogits,
    presence: NDArray[np.float32],
    is_kept: NDArray[np.bool_],
    target: Target,
    shape: tuple[int, int, int],
    image_size: int,
    spacing: tuple[float, float, float] | None,
    joining: Joining = JOINING,
) -> NDArray[np.bool_]:
    """The one mask of a target in a volume, bool (slice, row, column), on the slices as they are shown.

    Logits of all slices are held at once on the model's grid alone; they come onto the image's grid slice by slice.

    Args:
        logits: of all slices.
        presence: float32 (slice,), 0 to 1; NaN where the weights have none.
        is_kept: bool (slice,), slices that may show the target.
        target: says in how many parts.
        shape: (slice, row, column).
        image_size: of the model grid, in pixels.
        spacing: mm along (slice, row, column); None where they are not known, and nothing is said in ml.
    """
    mask = np.zeros(shape, dtype=bool)
    if not logits.any():
        return mask
    values = logits.unpack(0, shape[0])
    values[~is_kept] = -HIGHEST
    values = join_slices(values, presence, None if spacing is None else spacing[0], joining)
    values[~is_kept] = joining.growth - 1.0
    height, width = resized_shape(shape[1], shape[2], image_size)
    # What lies in the padding is no part of the image.
    stride = image_size / values.shape[1]
    values[:, math.ceil(height / stride) :] = values[:, :, math.ceil(width / stride) :] = joining.growth - 1.0
    least = 0.0
    if spacing is not None and target.least_ml is not None:
        cell = spacing[0] * spacing[1] * spacing[2] * (shape[1] / height) * (shape[2] / width) * stride**2
        least = target.least_ml * 1000 / cell
    values = keep_parts(values, target.parts, least, joining)
    for index in np.flatnonzero((values > joining.growth).any(axis=(1, 2))):
        on_image = to_image_grid(torch.from_numpy(values[index : index + 1]), shape[1], shape[2], image_size)
        mask[index] = (on_image[0] > joining.growth).numpy()
    # What is thin comes apart where the image's pixels are coarser than the model's.
    return drop_islands(mask, joining.island_share, target.parts)
