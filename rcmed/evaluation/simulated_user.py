"""What a user would point at who knows the answer: one click, or a box drawn with a little slack."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from rcmed.hints import Hint

# At most so much of its height and width a box is too large, on each of its four sides.
BOX_SLACK = 0.05


def click_inside(mask: NDArray[np.bool_]) -> Hint:
    """One click where a user would make it: in the largest part, as far from its edge as can be.

    Source: the first click of Kirillov et al., Segment Anything, 2023, section 7.1.

    Args:
        mask: bool (row, column), not empty.
    """
    parts, _ = ndimage.label(mask, structure=np.ones((3, 3)))
    largest = parts == np.bincount(parts.ravel())[1:].argmax() + 1
    # The picture's border is an edge, too: what it cuts is not clicked there.
    depth = ndimage.distance_transform_edt(np.pad(largest, 1))[1:-1, 1:-1]
    row, column = np.unravel_index(depth.argmax(), mask.shape)
    return Hint(inside=((float(row), float(column)),))


def box_around(mask: NDArray[np.bool_], seed: str) -> Hint:
    """The box of the whole mask, each side moved outwards by up to `BOX_SLACK`.

    Args:
        mask: bool (row, column), not empty.
        seed: the same one gives the same box.
    """
    covered = np.argwhere(mask)
    first, last = covered.min(0), covered.max(0)
    slack = np.random.default_rng(zlib.crc32(seed.encode())).uniform(0, BOX_SLACK, (2, 2)) * (last - first + 1)
    low = np.maximum(first - slack[0], 0)
    high = np.minimum(last + slack[1], np.array(mask.shape) - 1)
    return Hint(box=(float(low[0]), float(low[1]), float(high[0]), float(high[1])))
