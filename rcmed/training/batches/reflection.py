"""Images without their target, made of the half that does not show it.

Many data sets show a target in every image (no healthy brain beside the tumors), and nothing can be learned of absence
from them. Where a target lies on one side of a line, the other side reflected at it is a picture of the same kind
without it; the target's side reflected is one with it twice. Both are made, so that symmetry itself tells nothing.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_WITHOUT_TARGET_RATE = 0.6
_AT_THE_MIDDLE_RATE = 0.7
# Darker than this is background; JPEG leaves a little noise there.
_BACKGROUND = 20.0
_SMALLEST_SIDE = 0.33
_MARGIN_PIXELS = 3


def reflect_beside(
    pixels: Tensor, masks: Tensor, pivot: int, generator: np.random.Generator
) -> tuple[Tensor, Tensor] | None:
    """Reflect one side of a picture over the other, at a line beside a target.

    Args:
        pixels: float (3, row, column), values in [0, 255].
        masks: bool (mask, row, column).
        pivot: number of the mask that the line may not cut.
        generator: of everything random.
    Returns:
        pixels and masks of the new picture, of the same shapes; None where there is no such line.
    """
    shown = torch.nonzero((pixels.amax(0) > _BACKGROUND).any(0)).flatten()
    covered = torch.nonzero(masks[pivot].any(0)).flatten()
    if len(shown) == 0 or len(covered) == 0:
        return None
    first, last = int(shown[0]), int(shown[-1]) + 1
    left, right = int(covered[0]) - _MARGIN_PIXELS, int(covered[-1]) + 1 + _MARGIN_PIXELS
    middle = (first + last) // 2
    smallest = _SMALLEST_SIDE * (last - first)
    lines = [line for line in (left, right) if min(line - first, last - line) >= smallest]
    if (middle <= left or middle >= right) and (not lines or generator.random() < _AT_THE_MIDDLE_RATE):
        line = middle
    elif lines:
        line = lines[int(generator.integers(len(lines)))]
    else:
        return None
    target_is_left = right <= line
    keep_left = target_is_left != (generator.random() < _WITHOUT_TARGET_RATE)
    columns = torch.arange(pixels.shape[-1])
    mirrored = 2 * line - 1 - columns
    source = torch.where((columns >= line) == keep_left, mirrored, columns)
    inside = (source >= first) & (source < last)
    source = source.clamp(0, pixels.shape[-1] - 1)
    return pixels[..., source] * inside, masks[..., source] & inside
