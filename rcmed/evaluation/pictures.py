"""The worst and the best answers of an evaluation as pictures, so that a person sees the failures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from scipy import ndimage

from rcmed.assistant import Assistant
from rcmed.data.triplets import Triplet
from rcmed.evaluation.rows import ScoreRow
from rcmed.image import Grid, Image
from rcmed.vocabulary import target_named

_FOUND, _TRUE = (255, 60, 60), (60, 255, 60)


def draw_contours(pixels: NDArray[np.uint8], found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The truth's outline in green under the found one in red, on uint8 (row, column, 3)."""
    picture = pixels.copy()
    for mask, colour in ((truth, _TRUE), (found, _FOUND)):
        picture[mask & ~ndimage.binary_erosion(mask)] = colour
    return picture


def write_extremes(
    rows: Sequence[ScoreRow], triplets: Sequence[Triplet], assistant: Assistant, root: Path, folder: Path, count: int
) -> None:
    """Write the `count` worst and best pictures of every (data set, target) pair into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    by_image = {str(triplet.image.relative_to(root)): triplet for triplet in triplets}
    groups: dict[tuple[str, str], list[ScoreRow]] = defaultdict(list)
    for row in rows:
        if row.present:
            groups[row.dataset, row.target].append(row)
    for (dataset, name), members in sorted(groups.items()):
        ordered = sorted(members, key=lambda row: row.dice)
        for row in {row.image: row for row in (*ordered[:count], *ordered[-count:])}.values():
            triplet = by_image[row.image]
            pixels = triplet.read_pixels()
            image = Image(pixels[None], Grid.without_geometry(*pixels.shape[:2]), triplet.modality)
            mask = assistant.find_targets(image, [target_named(name)])[0].mask
            found = np.zeros(pixels.shape[:2], dtype=bool) if mask is None else mask[0]
            picture = draw_contours(pixels, found, triplet.read_mask(name))
            stem = f"{dataset}--{name.replace(' ', '_')}--{row.dice:.2f}--{Path(row.image).stem}"
            PillowImage.fromarray(picture).save(folder / f"{stem}.png")
