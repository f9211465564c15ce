"""PNG, JPEG, BMP and TIFF to images.

Pictures are read on the stored pixel grid: an EXIF orientation is a wish about display and turns nothing, so that a
mask lies on the stored pixels.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcmed.image import Grid, Image, Modality
from rcmed.stored_pixels import require_size, to_rgb8

PICTURES = (".png", ".jpg", ".jpeg", ".bmp")
TIFFS = (".tif", ".tiff")


def _picture_image(path: Path, slices: NDArray[Any], modality: Modality, notes: tuple[str, ...] = ()) -> Image:
    """(slice, row, column[, 3]) without geometry to an Image."""
    grid = Grid.without_geometry(slices.shape[1], slices.shape[2], slices.shape[0])
    return Image(slices, grid, modality, files=(path,), warnings=notes)


def read_picture(path: Path, modality: Modality) -> Image:
    """Read what Pillow reads: PNG, JPEG, BMP, and TIFF of one page."""
    from PIL import Image as PillowImage

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PillowImage.DecompressionBombWarning)
        opened = PillowImage.open(path)
    with opened as picture:
        require_size(path, (picture.height, picture.width))
        orientation = picture.getexif().get(0x0112, 1)
        mode = picture.mode
        pixels: NDArray[Any]
        if mode == "1":
            pixels = np.asarray(picture).astype(np.uint8) * 255
        elif mode in ("L", "I", "F") or mode.startswith("I;16"):
            pixels = np.asarray(picture)
            pixels = pixels.astype(pixels.dtype.newbyteorder("="))
        elif mode in ("LA", "La"):
            pixels = np.asarray(picture)[..., 0].copy()
        else:
            pixels = to_rgb8(path, np.asarray(picture.convert("RGB")))
    notes: tuple[str, ...] = ()
    if orientation not in (0, 1):
        notes = (f"{path}: EXIF orientation {orientation} is not applied; masks lie on the stored pixels",)
    return _picture_image(path, pixels[np.newaxis], modality, notes)


def read_tiff(path: Path, modality: Modality) -> Image:
    """Read a TIFF, its pages as slices."""
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        series = tiff.series[0]
        page = series.keyframe
        require_size(path, series.shape)
        try:
            pixels = series.asarray()
        except ValueError as error:
            if "imagecodecs" not in str(error) or len(tiff.pages) > 1:
                raise
            return read_picture(path, modality)  # Pillow brings the codecs of JPEG and LZW with it
        axes = series.axes
        samples = page.samplesperpixel
        if "S" in axes and samples > 1:
            pixels = np.moveaxis(pixels, axes.index("S"), -1)
            pixels = pixels.reshape(-1, *pixels.shape[-3:])
            pixels = to_rgb8(path, pixels) if samples >= 3 else np.ascontiguousarray(pixels[..., 0])
        else:
            pixels = pixels.reshape(-1, *pixels.shape[-2:])
            if page.colormap is not None:
                pixels = to_rgb8(path, np.moveaxis(np.asarray(page.colormap)[:, pixels], 0, -1))
            elif pixels.dtype == np.bool_:
                pixels = pixels.astype(np.uint8) * 255
            elif page.photometric == tifffile.PHOTOMETRIC.MINISWHITE and pixels.dtype.kind == "u":
                pixels = np.iinfo(pixels.dtype).max - pixels
    return _picture_image(path, pixels, modality)
