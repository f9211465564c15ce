"""The worst, median and best answers of volumes as pictures in three planes, the truth beside the answer."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as PillowImage

from rcmed.evaluation.pictures import Picture, draw_contours, extremes
from rcmed.evaluation.volumes.rows import ScoredVolume, VolumeRow
from rcmed.image import Image
from rcmed.inference.viewing import ReaderView
from rcmed.measurements import find_boxes
from rcmed.model.processor import to_eight_bit

EDGE = 320
"""Of the longest side of a volume in a picture, in pixels."""
_GAP = 4


class Planes:
    """Draws answers in one volume: three planes side by side, to scale, slices as a reader sees them."""

    def __init__(self, image: Image) -> None:
        """Prepare.

        Args:
            image: grey or RGB.
        """
        self._view = ReaderView.of(image.grid)
        self._pixels = self._view.to_view(to_eight_bit(image))
        spacing = np.array(image.grid.spacing)
        self._spacing = spacing[[0, 2, 1]] if self._view.transposed else spacing

    def draw(self, found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """Planes through the middle of the truth's largest part, or of what was found where the truth is empty.

        The truth's outline is green, the answer's red over it.

        Args:
            found, truth: bool (slice, row, column).
        Returns:
            uint8 (row, column, 3).
        """
        masks = [self._view.to_view(mask) for mask in (found, truth)]
        shape = masks[0].shape
        boxes = find_boxes(masks[1]) or find_boxes(masks[0])
        middle = [size // 2 for size in shape]
        if boxes:
            middle = [(first + last) // 2 for first, last in zip(boxes[0].first, boxes[0].last, strict=True)]
        scale = EDGE / float((np.array(shape) * self._spacing).max())
        planes = []
        for axis in range(3):
            size = [max(1, round(shape[other] * self._spacing[other] * scale)) for other in range(3) if other != axis]
            cut = [np.take(each, middle[axis], axis) for each in (self._pixels, *masks)]
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
    """Pictures of an evaluation: of every target the worst, the median and the best answers, chosen when all are known.

    Until then every answer's is kept as PNG, some tens of kB, so that no volume is read twice.
    """

    def __init__(self) -> None:
        self._drawn: dict[tuple[str, str, str], bytes] = {}

    def draw(self, scored: ScoredVolume) -> None:
        """Draw the answers in a volume that may be chosen."""
        planes = Planes(scored.image)
        for row, found, truth in scored.answers:
            if _may_be_chosen(row):
                buffer = io.BytesIO()
                PillowImage.fromarray(planes.draw(found, truth)).save(buffer, format="PNG")
                self._drawn[row.dataset, row.image, row.target] = buffer.getvalue()

    def write(self, rows: Sequence[VolumeRow], count: int, folder: Path) -> list[Picture]:
        """Write of every target in a modality the `count` worst, the median and the `count` best answers, each once.

        Args:
            rows: of all volumes.
            count: of the worst and of the best.
            folder: where; made where missing.
        """
        folder.mkdir(parents=True, exist_ok=True)
        groups: dict[tuple[str, str], list[VolumeRow]] = {}
        for row in filter(_may_be_chosen, rows):
            groups.setdefault((row.modality, row.target), []).append(row)
        pictures = []
        for _, members in sorted(groups.items()):
            for kind, row in extremes(members, count):
                path = folder / f"{row.dataset}--{row.target.replace(' ', '_')}--{row.dice:.2f}--{row.image}.png"
                path.write_bytes(self._drawn[row.dataset, row.image, row.target])
                pictures.append(Picture(kind, row, path))
        return pictures


def _may_be_chosen(row: VolumeRow) -> bool:
    return row.present and bool(row.status)
