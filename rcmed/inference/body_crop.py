"""CT slices cut to the body, as those were that the weights learned from: in a frame for shoulders a head is small."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from rcmed.image import Image
from rcmed.inference.packed_logits import HIGHEST
from rcmed.inference.viewing import ReaderView
from rcmed.inference.volume import presence_window
from rcmed.modality import Modality
from rcmed.model.processor import resized_shape
from rcmed.readers.pixel_values import hounsfield_doubt

# Between air and fat, in HU.
_AIR_BELOW = -300.0
# Pixels along the longest side are enough to see where a body ends.
_PIXELS_ALONG = 128
# Beside the body, to each side, of the longest side of its box; the slices that were learned from have as much.
MARGIN = 0.12
LARGEST_SHARE = 0.7
"""A body whose box is longer than this share of the frame's longest side is seen as it is."""


@dataclass(frozen=True)
class Box:
    """Rows and columns of a slice, from the first to before the last."""

    first_row: int
    first_column: int
    last_row: int
    last_column: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.last_row - self.first_row, self.last_column - self.first_column

    @property
    def place(self) -> tuple[slice, slice]:
        """Where it lies in a slice."""
        return slice(self.first_row, self.last_row), slice(self.first_column, self.last_column)


def body_boxes(image: Image, largest_share: float = LARGEST_SHARE) -> list[Box | None]:
    """Where the body is in each slice of a CT volume as it is shown, with a margin; None: the slice is seen whole.

    The body is the largest connected part that is no air, and a box holds what is of it in the slices beside, too, as
    far as presence looks. Nothing is cut where a box is not much smaller than the frame, in images of another
    modality, that are no volume, or whose values are not HU.

    Args:
        image: a volume.
        largest_share: a box longer than this share of the frame's longest side is not cut; 0: none is.
    """
    slices = image.grid.shape[0]
    whole: list[Box | None] = [None] * slices
    if not largest_share or not image.is_volume or image.modality is not Modality.CT or image.is_colour:
        return whole
    if image.unit is not None or hounsfield_doubt(image.pixels) is not None:
        return whole
    shown = ReaderView.of(image.grid).to_view(image.pixels)
    rows, columns = shown.shape[1:3]
    step = max(1, -(-max(rows, columns) // _PIXELS_ALONG))
    is_dense = ndimage.binary_opening(shown[:, ::step, ::step] > _AIR_BELOW, np.ones((1, 3, 3), dtype=bool))
    labels, count = ndimage.label(is_dense)
    if not count:
        return whole
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    is_body = labels == sizes.argmax()
    reach = presence_window(image.grid.spacing[0] if image.grid.in_millimetres else None)
    along_rows = ndimage.maximum_filter1d(is_body.any(axis=2).view(np.uint8), reach, axis=0, mode="nearest")
    along_columns = ndimage.maximum_filter1d(is_body.any(axis=1).view(np.uint8), reach, axis=0, mode="nearest")
    frame = max(rows, columns)
    for index in range(slices):
        if along_rows[index].any():
            box = _with_margin(_ends(along_rows[index], step), _ends(along_columns[index], step), rows, columns)
            if max(box.shape) <= largest_share * frame * (1 + 2 * MARGIN):
                whole[index] = box
    return whole


def _ends(is_there: NDArray[np.uint8], step: int) -> tuple[int, int]:
    places = np.flatnonzero(is_there)
    return int(places[0]) * step, (int(places[-1]) + 1) * step


def _with_margin(down: tuple[int, int], across: tuple[int, int], rows: int, columns: int) -> Box:
    margin = round(MARGIN * max(down[1] - down[0], across[1] - across[0]))
    return Box(
        max(0, down[0] - margin),
        max(0, across[0] - margin),
        min(rows, down[1] + margin),
        min(columns, across[1] + margin),
    )


def onto_frame(logits: Tensor, boxes: Sequence[Box | None], rows: int, columns: int, image_size: int) -> Tensor:
    """Logits of slices that were read cut to boxes, as if they had been read whole: on the frame's own model grid.

    Outside of its box a slice shows nothing.

    Args:
        logits: float (target, slice, r, c) on the padded model grids of the boxes.
        boxes: one per slice; None: it was read whole.
        rows, columns: of the frame.
        image_size: of the model grid.
    Returns:
        float (target, slice, r, c), as many rows and columns.
    """
    frame = logits.clone()
    height, width = resized_shape(rows, columns, image_size)
    cells = (torch.arange(logits.shape[-1], device=logits.device, dtype=torch.float32) + 0.5) * (
        image_size / logits.shape[-1]
    )
    for index, box in enumerate(boxes):
        if box is None:
            continue
        lengths = resized_shape(*box.shape, image_size)
        # Where the cells of the frame lie in the box, in pixels of the image, then on the box's model grid, -1 to 1.
        down = cells * (rows / height) - box.first_row
        across = cells * (columns / width) - box.first_column
        grid_down = down * (lengths[0] / box.shape[0]) / image_size * 2 - 1
        grid_across = across * (lengths[1] / box.shape[1]) / image_size * 2 - 1
        places = torch.stack(torch.meshgrid(grid_across, grid_down, indexing="xy"), -1)[None]
        found = F.grid_sample(
            logits[:, index][None].float(), places, mode="bilinear", padding_mode="border", align_corners=False
        )[0]
        is_outside = ~(((down >= 0) & (down < box.shape[0]))[:, None] & ((across >= 0) & (across < box.shape[1]))[None])
        frame[:, index] = found.masked_fill(is_outside, -HIGHEST).to(frame.dtype)
    return frame
