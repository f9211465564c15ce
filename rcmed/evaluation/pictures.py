"""The worst, median and best answers of an evaluation as pictures, so that a person sees the failures."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from scipy import ndimage

from rcmed.data.triplets import Triplet
from rcmed.evaluation.rows import ScoreRow

if TYPE_CHECKING:
    from rcmed.evaluation.volumes.rows import VolumeRow

_FOUND, _TRUE = (255, 60, 60), (60, 255, 60)
_Scored = TypeVar("_Scored", "ScoreRow", "VolumeRow")
WORST, MEDIAN, BEST, FALSE_POSITIVE = "worst", "median", "best", "false positive"


@dataclass(frozen=True)
class Picture:
    """One answer as a picture.

    Attributes:
        kind: "worst", "median", "best", or "false positive".
        row: what it shows.
        path: of the PNG.
    """

    kind: str
    row: ScoreRow | VolumeRow
    path: Path


class KeptMasks:
    """Masks of an evaluation until its pictures are drawn, compressed to about a thousandth of their pixels."""

    def __init__(self) -> None:
        self._masks: dict[tuple[str, str], tuple[tuple[int, int], bytes]] = {}

    def keep(self, row: ScoreRow, mask: NDArray[np.bool_]) -> None:
        """Keep a bool mask (row, column)."""
        rows, columns = mask.shape
        self._masks[row.image, row.target] = (rows, columns), zlib.compress(np.packbits(mask).tobytes(), 1)

    def mask(self, row: ScoreRow) -> NDArray[np.bool_]:
        """The mask that was kept for this row."""
        shape, packed = self._masks[row.image, row.target]
        bits = np.unpackbits(np.frombuffer(zlib.decompress(packed), np.uint8), count=shape[0] * shape[1])
        return bits.astype(bool).reshape(shape)


def draw_contours(pixels: NDArray[np.uint8], found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The truth's outline in green under the found one in red, on uint8 (row, column, 3)."""
    picture = pixels.copy()
    # On a small picture of a large image, a line of one pixel is not seen.
    thickness = max(1, round(min(truth.shape) / 200))
    for mask, colour in ((truth, _TRUE), (found, _FOUND)):
        picture[mask & ~ndimage.binary_erosion(mask, iterations=thickness)] = colour
    return picture


def choose_extremes(rows: Sequence[ScoreRow], count: int) -> list[tuple[str, ScoreRow]]:
    """Of every (data set, target) pair the `count` worst, the median and the `count` best Dice, in this order.

    After them, up to `count` absent targets that got a region, those first that were said to be likeliest. An answer
    is chosen once.
    """
    groups: dict[tuple[str, str], list[ScoreRow]] = defaultdict(list)
    for row in rows:
        groups[row.dataset, row.target].append(row)
    chosen = []
    for _, members in sorted(groups.items()):
        chosen += extremes([row for row in members if row.present], count)
        wrong = [row for row in members if not row.present and row.found]
        wrong.sort(key=lambda row: (-row.presence, row.image))
        chosen += [(FALSE_POSITIVE, row) for row in wrong[:count]]
    return chosen


def extremes(rows: Sequence[_Scored], count: int) -> list[tuple[str, _Scored]]:
    """Of present targets the `count` worst, the median and the `count` best Dice, in this order, each image once."""
    if not rows:
        return []
    ordered = sorted(rows, key=lambda row: (row.dice, row.image))
    middle = ordered[(len(ordered) - 1) // 2]
    named = [(BEST, row) for row in ordered[-count:]] + [(WORST, row) for row in ordered[:count]] + [(MEDIAN, middle)]
    kinds = {row.image: (kind, row) for kind, row in named}
    order = {WORST: 0, MEDIAN: 1, BEST: 2}
    return sorted(kinds.values(), key=lambda pair: (order[pair[0]], pair[1].dice, pair[1].image))


def write_extremes(
    rows: Sequence[ScoreRow], triplets: Mapping[str, Triplet], masks: KeptMasks, folder: Path, count: int
) -> list[Picture]:
    """Write the pictures that `choose_extremes` chooses into `folder`.

    Args:
        rows: with a kept mask each.
        triplets: by the row's image.
        masks: what was found.
        folder: made where it is missing.
        count: of the worst, of the best and of the false positives per pair.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures = []
    for kind, row in choose_extremes(rows, count):
        triplet = triplets[row.image]
        drawn = draw_contours(triplet.read_pixels(), masks.mask(row), triplet.read_mask(row.target))
        score = f"{row.dice:.2f}" if row.present else "absent"
        path = folder / f"{row.dataset}--{row.target.replace(' ', '_')}--{score}--{Path(row.image).stem}.png"
        PillowImage.fromarray(drawn).save(path)
        pictures.append(Picture(kind, row, path))
    return pictures
