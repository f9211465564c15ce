"""Overlay pictures: the slice as a reader sees it, each finding's region in its target's colour."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from rcmed.findings import Finding
from rcmed.image import Image

FILL = 0.3
"""How much of the colour a region's inside takes; its outline takes all."""

_WITHOUT_TARGET = (255, 80, 80)


def paint_overlay(image: Image, findings: Sequence[Finding], slice_index: int) -> NDArray[np.uint8]:
    """Paint findings on one slice.

    Args:
        image: grey in any unit or RGB; its window is used where it has one, else the 1st to 99th percentile.
        findings: those without a mask are passed over; later ones lie above earlier ones.
        slice_index: from 0.
    Returns:
        uint8 (row, column, 3) on the slice's own pixels.
    Raises:
        IndexError: there is no such slice.
        GridMismatchError: a mask does not lie on the image's grid.
    """
    if not 0 <= slice_index < image.grid.shape[0]:
        raise IndexError(f"slice {slice_index} of an image with {image.grid.shape[0]} slices")
    picture = _displayed(image, slice_index).astype(np.float32)
    thickness = max(1, round(min(picture.shape[:2]) / 256))
    for finding in findings:
        if finding.mask is None:
            continue
        image.grid.require_mask(finding.mask)
        region = finding.mask[slice_index]
        if not region.any():
            continue
        colour = np.asarray(finding.target.colour if finding.target else _WITHOUT_TARGET, dtype=np.float32)
        inside = ndimage.binary_erosion(region, iterations=thickness)
        picture[inside] = (1 - FILL) * picture[inside] + FILL * colour
        picture[region & ~inside] = colour
    return np.clip(picture + 0.5, 0, 255).astype(np.uint8)


def best_slice(image: Image, finding: Finding) -> int:
    """The slice with the largest area of the finding; the middle one where it has no region."""
    if finding.mask is None or not finding.mask.any():
        return image.grid.shape[0] // 2
    return int(np.argmax(np.count_nonzero(finding.mask, axis=(1, 2))))


def _displayed(image: Image, slice_index: int) -> NDArray[np.uint8]:
    pixels = image.pixels[slice_index]
    if image.is_colour:
        return pixels.astype(np.uint8)
    values = pixels.astype(np.float32)
    if image.window is not None and image.window[1] > 0:
        low, high = image.window[0] - image.window[1] / 2, image.window[0] + image.window[1] / 2
    else:
        finite = values[np.isfinite(values)]
        low, high = (0.0, 1.0) if finite.size == 0 else (float(q) for q in np.percentile(finite, (1, 99)))
    grey = np.nan_to_num((values - low) / max(high - low, 1e-6), nan=0.0, posinf=1.0, neginf=0.0)
    return np.repeat((np.clip(grey, 0, 1) * 255 + 0.5).astype(np.uint8)[..., None], 3, axis=-1)
