"""The worst, median and best answers of volumes as pictures in three planes, the truth beside the answer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as PillowImage

from rcmed.evaluation.pictures import Picture, draw_contours, extremes
from rcmed.evaluation.volumes.rows import VolumeRow
from rcmed.image import Image
from rcmed.inference.viewing import ReaderView
from rcmed.measurements import find_boxes
from rcmed.model.processor import to_eight_bit
from rcmed.packed_mask import PackedMask

EDGE = 320
"""Of the longest side of a volume in a picture, in pixels."""
_GAP = 4


def draw_planes(image: Image, found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Three planes side by side through the middle of the truth's largest part, or of what was found where it is empty.

    Slices lie as a reader sees them, each plane to scale; the truth's outline is green, the answer's red over it.

    Args:
        image: grey or RGB.
        found, truth: bool (slice, row, column).
    Returns:
        uint8 (row, column, 3).
    """
    view = ReaderView.of(image.grid)
    boxes = find_boxes(view.to_view(truth)) or find_boxes(view.to_view(found))
    shape = view.to_view(found).shape
    middle = [size // 2 for size in shape]
    if boxes:
        middle = [(first + last) // 2 for first, last in zip(boxes[0].first, boxes[0].last, strict=True)]
    spacing = np.array(image.grid.spacing)
    if view.transposed:
        spacing = spacing[[0, 2, 1]]
    scale = EDGE / float((np.array(shape) * spacing).max())
    pixels, *masks = (view.to_view(each) for each in (to_eight_bit(image), found, truth))
    planes = []
    for axis in range(3):
        size = [max(1, round(shape[other] * spacing[other] * scale)) for other in range(3) if other != axis]
        cut = [np.take(each, middle[axis], axis) for each in (pixels, *masks)]
        grey = np.asarray(PillowImage.fromarray(np.ascontiguousarray(cut[0])).resize((size[1], size[0])))
        outlines = [_resized(mask, size) for mask in cut[1:]]
        planes.append(draw_contours(grey, outlines[0], outlines[1]))
    height = max(len(plane) for plane in planes)
    columns = [np.pad(plane, ((0, height - len(plane)), (0, _GAP), (0, 0))) for plane in planes]
    return np.concatenate(columns, axis=1)


def _resized(mask: NDArray[np.bool_], size: Sequence[int]) -> NDArray[np.bool_]:
    tensor = torch.from_numpy(np.ascontiguousarray(mask))[None, None].float()
    return torch.nn.functional.interpolate(tensor, size=tuple(size), mode="nearest")[0, 0].bool().numpy()


class VolumePictures:
    """Pictures of an evaluation: of every target the worst, the median and the best answers, drawn when all are known.

    What was found and what is true is kept in bits until then, the images are read again.
    """

    def __init__(self) -> None:
        self._masks: dict[tuple[str, str, str], tuple[PackedMask, PackedMask]] = {}

    def keep(self, row: VolumeRow, found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> None:
        """Keep the masks of an answer."""
        self._masks[row.dataset, row.image, row.target] = PackedMask.of(found), PackedMask.of(truth)

    def choose(self, rows: Sequence[VolumeRow], count: int) -> list[tuple[str, VolumeRow]]:
        """Of every target in a modality the `count` worst, the median and the `count` best answers, each once."""
        chosen = []
        groups: dict[tuple[str, str], list[VolumeRow]] = {}
        for row in rows:
            if row.present and row.status:
                groups.setdefault((row.modality, row.target), []).append(row)
        for _, members in sorted(groups.items()):
            chosen += extremes(members, count)
        return chosen

    def write(self, chosen: Sequence[tuple[str, VolumeRow]], image: Image, name: str, folder: Path) -> list[Picture]:
        """Draw those of the chosen answers that are of one volume, into `folder`, which is made where missing."""
        folder.mkdir(parents=True, exist_ok=True)
        pictures = []
        for kind, row in chosen:
            if row.image != name:
                continue
            found, truth = self._masks[row.dataset, row.image, row.target]
            path = folder / f"{row.dataset}--{row.target.replace(' ', '_')}--{row.dice:.2f}--{row.image}.png"
            PillowImage.fromarray(draw_planes(image, found.unpack(), truth.unpack())).save(path)
            pictures.append(Picture(kind, row, path))
        return pictures
