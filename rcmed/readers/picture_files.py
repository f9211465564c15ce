"""PNG, JPEG and BMP to images.

Pictures are read on the stored pixel grid: an EXIF orientation is a wish about display and turns nothing, so that a
mask lies on the stored pixels.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from rcmed.errors import UnreadableFileError
from rcmed.image import Grid, Image
from rcmed.modality import Modality
from rcmed.readers.stored_pixels import require_size, to_rgb8, unused_bits_note

PICTURES = (".png", ".jpg", ".jpeg", ".bmp")

_ORIENTATION = 0x0112


def read_picture(path: Path, modality: Modality) -> Image:
    """Read the first picture of a PNG, JPEG or BMP.

    Raises:
        UnreadableFileError: too large, or of a kind of colour that nothing here turns to RGB.
    """
    with opened_picture(path) as picture:
        pixels, notes = picture_values(path, picture)
        orientation = picture.getexif().get(_ORIENTATION, 1)
        pictures = getattr(picture, "n_frames", 1)
    if orientation not in (0, 1):
        notes += (f"{path}: EXIF orientation {orientation} is not applied; masks lie on the stored pixels",)
    if pictures > 1:
        notes += (f"{path}: holds {pictures} pictures; only the first is read",)
    return picture_image(path, pixels[np.newaxis], modality, notes)


@contextmanager
def opened_picture(path: Path) -> Iterator[PillowImage.Image]:
    """A picture whose size is one that is read; its pixels are not decoded yet."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PillowImage.DecompressionBombWarning)
        opened = PillowImage.open(path)
    with opened as picture:
        require_size(path, (picture.height, picture.width))
        yield picture


def picture_image(path: Path, slices: NDArray[Any], modality: Modality, notes: tuple[str, ...] = ()) -> Image:
    """(slice, row, column[, 3]) without geometry to an Image."""
    grid = Grid.without_geometry(slices.shape[1], slices.shape[2], slices.shape[0])
    return Image(slices, grid, modality, files=(path,), warnings=notes)


def picture_values(path: Path, picture: PillowImage.Image) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Grey (row, column) or RGB uint8 (row, column, 3) of an opened picture, and a line for what was assumed.

    Raises:
        UnreadableFileError: a kind of colour that nothing here turns to RGB.
    """
    if picture.format == "PNG" and _is_cut_to_eight_bits(picture):
        return _deep_png(path)
    mode = picture.mode
    if mode == "1":
        return np.asarray(picture).astype(np.uint8) * 255, ()
    if mode in ("L", "I", "F") or mode.startswith("I;16"):
        pixels = np.asarray(picture)
        return pixels.astype(pixels.dtype.newbyteorder("=")), ()
    if mode in ("LA", "La"):
        return np.asarray(picture)[..., 0].copy(), ()
    if mode in ("LAB", "HSV"):
        raise UnreadableFileError(f"{path}: colour as {mode} can't be read; save it as RGB")
    return to_rgb8(path, np.asarray(picture.convert("RGB"))), ()


def _is_cut_to_eight_bits(picture: PillowImage.Image) -> bool:
    """Whether Pillow keeps the higher byte only, of which a picture of 12 bits in 16 has next to nothing."""
    return picture.mode in ("RGB", "RGBA", "LA") and any(";16" in str(tile[3]) for tile in getattr(picture, "tile", ()))


def _deep_png(path: Path) -> tuple[NDArray[Any], tuple[str, ...]]:
    import SimpleITK as sitk  # noqa: N813

    stored = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    if stored.ndim == 2:
        return stored, ()
    if stored.shape[-1] == 2:
        return np.ascontiguousarray(stored[..., 0]), ()
    return to_rgb8(path, stored), unused_bits_note(path, stored)
