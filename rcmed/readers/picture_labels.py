"""Pictures of masks and label maps: what is transparent is not drawn, and a palette's colours stand for their indices.

A photograph is what its colours show; of a mask the colours mean nothing. The one place where the difference is made.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from rcmed.errors import InputError
from rcmed.image import Image
from rcmed.modality import Modality
from rcmed.readers import read_images, suffix_of
from rcmed.readers.picture_files import PICTURES, opened_picture, picture_image
from rcmed.readers.tiff_files import TIFFS

DRAWN_FIRST_COLOUR = 256
"""The value of a palette's colour 0 where that is drawn: 0 is the background, and an index is 255 at most."""

_WITH_ALPHA = {"RGBA", "LA", "PA", "RGBa", "La"}


def read_labels(path: Path, modality: Modality) -> Image:
    """Read a file of a mask or label map; all but pictures with a palette or transparency as `read_images` does.

    Returns:
        an image whose grey values are the labels, 0 where nothing is drawn; RGB where the file is a colour picture,
        black where nothing is drawn.
    Raises:
        InputError: it can't be read, or what of it is background can't be known.
    """
    if suffix_of(path) in (*PICTURES, *TIFFS):
        found = _special(path)
        if found is not None:
            return picture_image(path, found[np.newaxis], modality)
    return read_images(path, modality)[0]


def _special(path: Path) -> NDArray[Any] | None:
    """Labels of a picture with a palette or transparency; None where it has neither, or can't be opened at all."""
    try:
        with opened_picture(path) as picture:
            is_palette, pages = picture.mode in ("P", "PA"), getattr(picture, "n_frames", 1)
            if not is_palette and picture.mode not in _WITH_ALPHA:
                return None
            if pages > 1:
                raise InputError(f"{path}: {pages} pages with a palette or transparency; save the mask as grey")
            return _of_palette(path, picture) if is_palette else _of_alpha(path, picture)
    except InputError:
        raise
    except Exception:  # the reader of pictures says what is wrong with it
        return None


def _of_palette(path: Path, picture: PillowImage.Image) -> NDArray[np.uint16]:
    """Indices, with 0 where the colour is black or transparent."""
    indices = np.asarray(picture.getchannel(0) if picture.mode == "PA" else picture).astype(np.uint16)
    shown = np.asarray(picture.convert("RGBA"))
    is_drawn = shown[..., :3].any(-1) & (shown[..., 3] > 0)
    if is_drawn.all() and not indices.all():
        raise InputError(
            f"{path}: none of its palette's colours is black; save the mask as grey, 0 where nothing is drawn"
        )
    return np.where(is_drawn, np.where(indices == 0, DRAWN_FIRST_COLOUR, indices), 0).astype(np.uint16)


def _of_alpha(path: Path, picture: PillowImage.Image) -> NDArray[np.uint8]:
    """Grey or RGB, 0 where transparent. Black that is drawn on a transparent ground becomes white."""
    if picture.mode in ("La", "RGBa"):
        picture = picture.convert({"La": "LA", "RGBa": "RGBA"}[picture.mode])
    samples = np.asarray(picture)
    values, is_visible = samples[..., :-1].copy(), samples[..., -1] > 0
    is_coloured = values.any(-1)
    if not is_visible.all() and is_visible.any():
        if not is_coloured[is_visible].any():
            values[is_visible] = 255
        elif not is_coloured[is_visible].all():
            raise InputError(
                f"{path}: black and other colours are drawn on a transparent ground; save the mask as grey, 0 where "
                "nothing is drawn"
            )
    values[~is_visible] = 0
    is_grey = bool((values == values[..., :1]).all())
    return np.ascontiguousarray(values[..., 0] if is_grey else values)
