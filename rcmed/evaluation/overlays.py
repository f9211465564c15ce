"""Overlay pictures: the slice as a reader sees it, each finding's region in its target's colour."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rcmed.description.painting import paint_regions
from rcmed.findings import Finding
from rcmed.image import Image

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
    regions = [(f.region, f.target.colour if f.target else _WITHOUT_TARGET) for f in findings if f.region is not None]
    return paint_regions(image, regions, slice_index)


def best_slice(image: Image, finding: Finding) -> int:
    """The slice with the largest area of the finding; the middle one where it has no region."""
    if finding.region is None or not finding.region.any():
        return image.grid.shape[0] // 2
    return int(finding.region.areas.argmax())
