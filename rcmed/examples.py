"""Examples of a new target: annotated images in a folder, the slices of them that teach, and a name with codes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rcmed.errors import InputError
from rcmed.image import Image
from rcmed.inference.viewing import ReaderView
from rcmed.modality import Modality
from rcmed.model.processor import to_eight_bit
from rcmed.readers import read_images
from rcmed.readers.label_maps import read_mask
from rcmed.vocabulary import Target, load_targets
from rcmed.vocabulary.named import LONGEST_NAME, private_target

# More examples than this of one target are a data set: train on it.
MOST_SLICES = 32
SLICES_PER_VOLUME = 8


def read_examples(folder: Path, modality: Modality | None = None) -> tuple[list[Image], list[NDArray[np.bool_]]]:
    """Read `folder/images/*` with `folder/masks/*`: a mask has its image's file name up to the suffix, above 0 counts.

    Raises:
        InputError: there are none, or a mask is missing or can't be read.
        GridMismatchError: a mask does not lie on its image's voxels.
        ConfigurationError: the modality can't be told.
    """
    files = sorted(path for path in (folder / "images").glob("*") if not path.name.startswith("."))
    if not files:
        raise InputError(f"{folder}: holds no examples; images go into images/, masks of the same names into masks/")
    by_stem = {_stem(path): path for path in (folder / "masks").glob("*")}
    images, masks = [], []
    for path in files:
        if _stem(path) not in by_stem:
            raise InputError(f"{path}: has no mask of that name in {folder / 'masks'}; add or remove one")
        image = read_images(path, modality)[0]
        images.append(image)
        masks.append(read_mask(by_stem[_stem(path)], image))
    return images, masks


def _stem(path: Path) -> str:
    return path.name.split(".")[0]


def learnable_target(name: str, images: Sequence[Image]) -> Target:
    """The vocabulary's target of this name, or one with a private code (99RCMED) made of it.

    Raises:
        InputError: there is no image, the modalities differ, or the name is blank or longer than 64 characters.
    """
    name = " ".join(name.lower().split())
    if not name or len(name) > LONGEST_NAME:
        raise InputError(f"examples: the name of a target has 1 to {LONGEST_NAME} characters, not {len(name)}")
    modalities = {image.modality for image in images}
    if len(modalities) != 1:
        raise InputError(f"examples of {name}: one modality is needed, not {len(modalities)}")
    for target in load_targets():
        if name == target.name:
            return target
    return private_target(name, tuple(modalities))


def example_slices(
    images: Sequence[Image], masks: Sequence[NDArray[np.bool_]]
) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.bool_]]]:
    """The slices that show the target best, as a radiologist sees them: pixels (row, column, 3) and masks.

    Raises:
        GridMismatchError: a mask does not lie on its image's grid.
    """
    pixels, shown = [], []
    for image, mask in zip(images, masks, strict=True):
        image.grid.require_mask(mask)
        view = ReaderView.of(image.grid)
        views, turned = view.to_view(to_eight_bit(image)), view.to_view(mask)
        areas = turned.sum((1, 2))
        best = sorted(np.argsort(areas, kind="stable")[::-1][:SLICES_PER_VOLUME].tolist())
        for index in (index for index in best if areas[index]):
            pixels.append(np.ascontiguousarray(views[index]))
            shown.append(np.ascontiguousarray(turned[index]))
    return pixels[:MOST_SLICES], shown[:MOST_SLICES]
