"""TIFF to images: by the photometric interpretation that the file tells, its pages as slices.

Of the pictures that a TIFF may hold beside its main one (thumbnails, levels of a pyramid, labels of a slide), and of
further channels, none is taken for a slice; they are named.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from rcmed.errors import UnreadableFileError
from rcmed.image import Image
from rcmed.modality import Modality
from rcmed.readers.picture_files import opened_picture, picture_image, picture_values
from rcmed.readers.stored_pixels import require_size, to_rgb8, unused_bits_note

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage, TiffPageSeries

TIFFS = (".tif", ".tiff")

_JPEGS = (6, 7, 33003, 33004, 33005, 33007, 34892)
"""Compressions (TIFF tag 259) whose decoders give RGB where the file says YCbCr."""
_CMYK = 1
"""InkSet (TIFF tag 332); any other names inks that nothing here knows."""


def read_tiff(path: Path, modality: Modality) -> Image:
    """Read the main picture of a TIFF, its pages as slices.

    Raises:
        UnreadableFileError: a photometric interpretation or compression that nothing here reads.
    """
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        series = _main_series(tiff)
        page = series.keyframe
        require_size(path, series.shape)
        notes = _left_out(path, tiff, series)
        try:
            stored = series.asarray()
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            values, more = _by_pillow(path, series)  # it brings the codecs of JPEG and LZW with it
            return picture_image(path, values, modality, (*notes, *more))
        pixels, more = _slices(path, stored, series.axes, page.samplesperpixel)
        values, assumed = _shown(path, page, pixels)
    return picture_image(path, values, modality, (*notes, *more, *assumed))


def _main_series(tiff: TiffFile) -> TiffPageSeries:
    """The largest picture that is no thumbnail, level or transparency mask of another; the first among equals."""
    candidates = [s for s in tiff.series if not (s.keyframe.is_reduced or s.keyframe.is_mask)] or list(tiff.series)
    if not candidates:
        raise UnreadableFileError(f"{tiff.filename}: the TIFF holds no picture")
    return max(candidates, key=lambda series: series.keyframe.imagewidth * series.keyframe.imagelength)


def _left_out(path: Path, tiff: TiffFile, main: TiffPageSeries) -> tuple[str, ...]:
    others = [*main.levels[1:], *(series for series in tiff.series if series is not main)]
    if not others:
        return ()
    sizes = ", ".join(f"{s.keyframe.imagelength} x {s.keyframe.imagewidth}" for s in others[:6])
    page = main.keyframe
    return (
        f"{path}: of {len(others) + 1} pictures only that of {page.imagelength} x {page.imagewidth} is read; left out "
        f"(thumbnails, levels or others): {sizes}{', ...' if len(others) > 6 else ''}",
    )


def _slices(path: Path, stored: NDArray[Any], axes: str, samples: int) -> tuple[NDArray[Any], tuple[str, ...]]:
    """A series in the file's order of axes to (slice, row, column[, sample]); of several channels the first."""
    notes: tuple[str, ...] = ()
    if "C" in axes:
        channel = axes.index("C")
        if stored.shape[channel] > 1:
            notes = (
                f"{path}: of {stored.shape[channel]} channels only the first is read; give one as a file of its own",
            )
        stored, axes = stored.take(0, axis=channel), axes.replace("C", "", 1)
    if "S" in axes and samples > 1:
        stored = np.moveaxis(stored, axes.index("S"), -1)
        return stored.reshape(-1, *stored.shape[-3:]), notes
    return stored.reshape(-1, *stored.shape[-2:]), notes


def _shown(path: Path, page: TiffPage, pixels: NDArray[Any]) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Stored samples (slice, row, column[, sample]) to grey, larger is brighter, or to RGB uint8."""
    from tifffile import PHOTOMETRIC

    photometric = page.photometric
    if photometric in (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.MINISWHITE, PHOTOMETRIC.MASK):
        notes: tuple[str, ...] = ()
        if pixels.ndim == 4:
            further = pixels.shape[-1] - 1 - sum(int(extra) in (1, 2) for extra in page.extrasamples)
            if further > 0:
                notes = (f"{path}: of {further + 1} grey samples a pixel only the first is read",)
            pixels = np.ascontiguousarray(pixels[..., 0])
        if photometric == PHOTOMETRIC.MINISWHITE:
            pixels = _inverted(path, pixels, int(page.bitspersample))
        return (pixels.astype(np.uint8) * 255 if pixels.dtype == np.bool_ else pixels), notes
    if photometric == PHOTOMETRIC.PALETTE and page.colormap is not None and pixels.ndim == 3:
        colormap = np.asarray(page.colormap)
        if colormap.max(initial=0) < 256:
            colormap = colormap.astype(np.uint8)  # written with 8 bits where the format has 16
        return _eight_bits(path, np.moveaxis(colormap[:, pixels], 0, -1)), ()
    is_ycbcr = photometric == PHOTOMETRIC.YCBCR
    if pixels.ndim == 4 and pixels.shape[-1] >= 3:
        if photometric == PHOTOMETRIC.RGB or (is_ycbcr and int(page.compression) in _JPEGS):
            return to_rgb8(path, pixels), unused_bits_note(path, pixels)
        if is_ycbcr and pixels.dtype == np.uint8:
            return _converted(pixels[..., :3], "YCbCr"), ()
        if photometric == PHOTOMETRIC.SEPARATED and pixels.shape[-1] >= 4 and _ink_set(page) == _CMYK:
            return _converted(_eight_bits(path, pixels[..., :4]), "CMYK"), ()
    raise UnreadableFileError(
        f"{path}: photometric interpretation {getattr(photometric, 'name', photometric)} with {page.samplesperpixel} "
        f"samples of {page.bitspersample} bits can't be read; save it as RGB or grey"
    )


def _inverted(path: Path, pixels: NDArray[Any], bits: int) -> NDArray[Any]:
    """Grey of which 0 is white: the highest value that the samples' bits hold becomes 0."""
    if pixels.dtype.kind in "bi":
        return ~pixels
    if pixels.dtype.kind == "u":
        return np.asarray(np.asarray(2**bits - 1, pixels.dtype) - pixels)
    raise UnreadableFileError(f"{path}: WhiteIsZero of type {pixels.dtype} has no black; save it with 0 as black")


def _ink_set(page: TiffPage) -> int:
    tag = page.tags.get(332)
    return _CMYK if tag is None else int(tag.value)


def _eight_bits(path: Path, samples: NDArray[Any]) -> NDArray[np.uint8]:
    if samples.dtype == np.uint8:
        return samples
    if samples.dtype == np.uint16:
        return ((samples.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    raise UnreadableFileError(f"{path}: colour of type {samples.dtype} can't be read; save it with 8 bits a channel")


def _converted(pixels: NDArray[np.uint8], mode: str) -> NDArray[np.uint8]:
    """(slice, row, column, sample) in a mode of Pillow to RGB."""
    pages = [PillowImage.frombytes(mode, page.shape[1::-1], page.tobytes()).convert("RGB") for page in pixels]
    return np.stack([np.asarray(page) for page in pages])


def _by_pillow(path: Path, series: TiffPageSeries) -> tuple[NDArray[Any], tuple[str, ...]]:
    """The pages of a series that tifffile can't decode alone."""
    from tifffile import PHOTOMETRIC

    pages = [page for page in series.pages if page is not None]
    if "C" in series.axes and series.shape[series.axes.index("C")] > 1:
        raise UnreadableFileError(f"{path}: several channels in a compressed TIFF; give one as a file of its own")
    slices: list[NDArray[Any]] = []
    notes: list[str] = []
    with opened_picture(path) as picture:
        for page in pages:
            picture.seek(page.index)
            values, more = picture_values(path, picture)
            if series.keyframe.photometric == PHOTOMETRIC.MINISWHITE and picture.mode not in ("1", "L"):
                values = _inverted(path, values, int(series.keyframe.bitspersample))  # Pillow does it for 8 bits only
            if values.ndim == 3 and int(np.max(series.keyframe.bitspersample)) > 8 and 0 < values.max() < 16:
                raise UnreadableFileError(f"{path}: colour of 12 bits in 16, compressed; save it with 8 bits a channel")
            slices.append(values)
            notes += more
    return np.stack(slices), tuple(dict.fromkeys(notes))
