"""A picture with a finding burnt in, for viewers that show no SEG; words stand in bands above and below the slice."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from dicom_bridge.results.provenance import RESEARCH
from rcmed.evaluation.overlays import paint_overlay
from rcmed.findings import Finding
from rcmed.image import Image

SHORTEST_SIDE = 512
"""Smaller slices are magnified to this many pixels, so that words and outlines can be read."""
LONGEST_SIDE = 2048
"""Larger slices are made smaller: a picture to look at, not to measure in."""
_TEXT = 20
_BAND = 34
_YELLOW, _WHITE = (255, 220, 0), (255, 255, 255)


def captioned_overlay(image: Image, finding: Finding, slice_index: int, caption: str) -> NDArray[np.uint8]:
    """Paint a finding on a slice, bring it to square pixels, and say what it is.

    Nothing of the slice is covered: the words stand in bands of their own, RESEARCH USE ONLY above, the caption below.

    Args:
        image: with the slice.
        finding: with a mask.
        slice_index: from 0.
        caption: below; cut where it is wider than the picture.
    Returns:
        uint8 (row, column, 3).
    """
    painted = PillowImage.fromarray(paint_overlay(image, [finding], slice_index))
    rows, columns = image.grid.shape[1:]
    if image.grid.in_millimetres:
        _, between_rows, between_columns = image.grid.spacing
        height, width = rows * between_rows, columns * between_columns
    else:
        height, width = float(rows), float(columns)
    unit = max(rows / height, columns / width)
    height, width = height * unit, width * unit
    scale = max(1.0, SHORTEST_SIDE / min(height, width))
    scale = min(scale, LONGEST_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    painted = painted.resize(size, PillowImage.Resampling.LANCZOS if scale < 1 else PillowImage.Resampling.BICUBIC)
    larger = max(1.0, size[0] / (1.25 * SHORTEST_SIDE))
    band = round(_BAND * larger)
    picture = PillowImage.new("RGB", (size[0], size[1] + 2 * band))
    picture.paste(painted, (0, band))
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(_TEXT * larger)
    for text, colour, top in ((RESEARCH, _YELLOW, 0), (caption, _WHITE, size[1] + band)):
        text = _fitting(draw, text, font, size[0] - 8)
        draw.text((4, top + band // 2), text, fill=colour, font=font, anchor="lm")
    return np.asarray(picture)


def _fitting(
    draw: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int
) -> str:
    if draw.textlength(text, font=font) <= width:
        return text
    while text and draw.textlength(f"{text}...", font=font) > width:
        text = text[:-1]
    return f"{text}..."
