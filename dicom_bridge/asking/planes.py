"""The planes of an image as a reader sees them: slices and masks of one as PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from dicom_bridge.errors import NotThereError
from rcmed.description.painting import FILL, inside_of, to_grey
from rcmed.image import Grid, Image
from rcmed.inference.viewing import ReaderView
from rcmed.model.processor import SOFT_TISSUE_WINDOW

LONGEST_SHOWN = 4096
"""Pixels along the longer side of a picture; of a larger slice every second one, or third, ... is shown."""
_SAMPLED = 2_000_000
_FAST = 1
# By the patient axis (LPS) that the slices are stacked along.
_NAMES = ("sagittal", "coronal", "axial")

Window = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Plane:
    """One way to cut an image into slices.

    Attributes:
        axis: of (slice, row, column), along which its slices are stacked; 0: the slices that the weights see.
        name: axial, coronal or sagittal; "" where the position in the patient is unknown.
        grid: of the image with that axis first.
        view: how its slices are turned for display.
    """

    axis: int
    name: str
    grid: Grid
    view: ReaderView

    @classmethod
    def along(cls, grid: Grid, axis: int) -> Plane:
        """The plane of a grid whose slices are stacked along an axis of (slice, row, column)."""
        order = [axis, *(other for other in range(3) if other != axis)]
        affine = grid.affine[:, [*order, 3]]
        shape = (grid.shape[order[0]], grid.shape[order[1]], grid.shape[order[2]])
        turned = Grid(shape, affine, grid.in_millimetres, grid.in_patient_coordinates)
        normal = np.cross(affine[:3, 1], affine[:3, 2])
        name = _NAMES[int(np.abs(normal).argmax())] if grid.in_patient_coordinates else ""
        return cls(axis, name, turned, ReaderView.of(turned))

    @property
    def shown_shape(self) -> tuple[int, int]:
        """Rows and columns of a slice as it is shown."""
        _, rows, columns = self.view.lengths(self.grid.shape)
        return rows, columns

    @property
    def shown_spacing(self) -> tuple[float, float]:
        """Distance of the rows and of the columns as they are shown, in mm or pixels."""
        _, rows, columns = self.view.lengths(self.grid.spacing)
        return rows, columns

    def slice_of(self, voxels: NDArray[np.generic], index: int) -> NDArray[np.generic]:
        """A slice of (slice, row, column, ...) as it is shown: (row, column, ...), of the same memory.

        Raises:
            NotThereError: there is no such slice.
        """
        if not 0 <= index < self.grid.shape[0]:
            raise NotThereError(
                f"there is no slice {index}: the {self.name or 'image'} slices are {self.grid.shape[0]}"
            )
        shown: NDArray[np.generic] = self.view.to_view(np.moveaxis(voxels, self.axis, 0)[index][None])[0]
        return shown


def planes_of(image: Image) -> list[Plane]:
    """The planes in which an image can be looked at: its own first, and of a volume the two across it."""
    axes = (0, 1, 2) if image.is_volume and image.grid.shape[0] > 1 else (0,)
    return [Plane.along(image.grid, axis) for axis in axes]


def first_window(image: Image) -> Window | None:
    """Centre and width with which an image is shown at first; None for a colour image, which has none.

    The source's own; without one the whole range of 8-bit grey, soft tissue of a CT in HU, else from the 1st to the
    99th percentile.
    """
    if image.is_colour:
        return None
    if image.window is not None and image.window[1] > 0:
        return float(image.window[0]), float(image.window[1])
    if image.pixels.dtype == np.uint8:
        return 127.5, 255.0
    if image.claims_hounsfield:
        return SOFT_TISSUE_WINDOW
    flat = image.pixels.reshape(-1)
    values = flat[:: max(1, flat.size // _SAMPLED)].astype(np.float32)
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return 0.5, 1.0
    low, high = (float(value) for value in np.percentile(finite, (1, 99)))
    return (low + high) / 2, max(high - low, 1e-6)


def slice_png(image: Image, plane: Plane, index: int, window: Window | None) -> bytes:
    """A slice as PNG, 8-bit grey or RGB, as it is shown; a large one in fewer pixels (`LONGEST_SHOWN`).

    Args:
        window: centre and width in the unit of the pixels; None: `first_window`. Colour has none.
    Raises:
        NotThereError: there is no such slice.
    """
    pixels = _fewer(plane.slice_of(image.pixels, index))
    if image.is_colour:
        return _png(np.ascontiguousarray(pixels, dtype=np.uint8))
    centre, width = window or first_window(image) or (0.5, 1.0)
    return _png(to_grey(pixels.astype(np.float32), centre - width / 2, width))


def overlay_png(
    masks: Sequence[tuple[NDArray[np.bool_], tuple[int, int, int]]],
    shape: tuple[int, int],
    longest: int = LONGEST_SHOWN,
) -> bytes:
    """Masks of one slice as PNG, RGBA: clear where nothing is, the inside tinted, the outline in full colour.

    Args:
        masks: bool (row, column) as the slice is shown, with their sRGB colours; later ones lie above earlier ones.
        shape: rows and columns of the slice; a large one is painted in fewer pixels, as `slice_png`.
    """
    step = _step(shape)
    picture = np.zeros((*(-(-length // step) for length in shape), 4), dtype=np.uint8)
    for mask, colour in masks:
        region = mask[::step, ::step]
        if not region.any():
            continue
        inside = inside_of(region)
        picture[inside] = (*colour, round(FILL * 255))
        picture[region & ~inside] = (*colour, 255)
    return _png(picture)


def _step(shape: tuple[int, ...]) -> int:
    return max(1, -(-max(shape[:2]) // LONGEST_SHOWN))


def _fewer(pixels: NDArray[np.generic]) -> NDArray[np.generic]:
    step = _step(pixels.shape)
    return pixels[::step, ::step]


def _png(picture: NDArray[np.uint8]) -> bytes:
    content = io.BytesIO()
    PillowImage.fromarray(picture).save(content, "PNG", compress_level=_FAST)
    return content.getvalue()
