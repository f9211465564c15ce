"""The published index (`image2label_{split}.json`): images, their masks, and what was labelled in them."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from rcmed.errors import InputError
from rcmed.modality import Modality
from rcmed.vocabulary.table import canonical_name

_PREFIXES = {modality.value: modality for modality in Modality} | {"x": Modality.X_RAY}


@dataclass(frozen=True)
class Triplet:
    """An image, its masks and what is known of it.

    Attributes:
        image: path of the image file.
        masks: by canonical target name, the mask files to be united.
        labelled: every target that was annotated; labelled without a mask is absent, not labelled is unknown.
        modality: from the file name's prefix.
        dataset: name of the data set.
        patient: identifier that is unique across data sets.
    """

    image: Path
    masks: dict[str, tuple[Path, ...]]
    labelled: tuple[str, ...]
    modality: Modality
    dataset: str
    patient: str

    def read_pixels(self) -> NDArray[np.uint8]:
        """The image as uint8 (row, column, 3) RGB.

        Raises:
            InputError: the file can't be read.
        """
        try:
            with PillowImage.open(self.image) as opened:
                return np.asarray(opened.convert("RGB"))
        except OSError as error:
            raise InputError(f"{self.image}: can't be read as an image ({error}); mend or remove it") from error

    def read_mask(self, name: str) -> NDArray[np.bool_]:
        """The united mask of a target as bool (row, column); empty where the target is absent.

        Raises:
            InputError: a file can't be read, or the parts are of several shapes.
        """
        try:
            parts = [np.asarray(PillowImage.open(path).convert("L")) > 0 for path in self.masks.get(name, ())]
        except OSError as error:
            raise InputError(f"{self.image}: its mask of {name} can't be read ({error}); mend or remove it") from error
        if len({part.shape for part in parts}) > 1:
            raise InputError(f"{self.image}: its masks of {name} are of several shapes; one belongs to another image")
        if not parts:
            with PillowImage.open(self.image) as opened:
                return np.zeros((opened.height, opened.width), dtype=bool)
        return np.logical_or.reduce(parts)


def without_targets(triplets: list[Triplet], names: Collection[str]) -> list[Triplet]:
    """The same as if nobody had annotated some targets; images of which nothing is known then are left out."""
    left = [
        replace(
            triplet,
            masks={name: paths for name, paths in triplet.masks.items() if name not in names},
            labelled=tuple(name for name in triplet.labelled if name not in names),
        )
        for triplet in triplets
    ]
    return [triplet for triplet in left if triplet.masks or triplet.labelled]


def modality_from_name(path: Path) -> Modality:
    """The modality that a file name's prefix tells ("ct--...").

    Raises:
        InputError: the prefix is none of the nine.
    """
    prefix = path.name.split("--")[0]
    if prefix not in _PREFIXES:
        raise InputError(f"{path}: its name must start with a modality ({', '.join(sorted(_PREFIXES))}) and two dashes")
    return _PREFIXES[prefix]


def read_index(index: Path, root: Path) -> list[Triplet]:
    """Read a published index; `provenance.jsonl` beside it adds data set, patient and what was labelled.

    A name that is a synonym in the table of targets ("oesophagus") becomes the table's, so that a structure is one
    target whoever annotated it; other names stay.

    Raises:
        InputError: the index or `provenance.jsonl` can't be read or is of another shape, or a modality is not known.
    """
    entries = _entries(index)
    provenance = _provenance(root / "provenance.jsonl")
    triplets = []
    for image, masks in sorted(entries.items()):
        by_name: dict[str, tuple[Path, ...]] = {}
        for mask in masks:
            for path, written in mask.items():
                name = canonical_name(written)
                by_name[name] = (*by_name.get(name, ()), root / path)
        facts = provenance.get(image, {})
        parts = Path(image).name.split("--")
        labelled = facts.get("labelled", sorted(by_name))
        if not isinstance(labelled, list) or not all(isinstance(name, str) for name in labelled):
            raise InputError(f"{root / 'provenance.jsonl'}: `labelled` of {image} must be a list of names of targets")
        triplets.append(
            Triplet(
                image=root / image,
                masks=by_name,
                labelled=tuple(dict.fromkeys(canonical_name(name) for name in labelled)),
                modality=modality_from_name(Path(image)),
                dataset=str(facts.get("dataset", parts[1] if len(parts) > 2 else "unknown")),
                patient=str(facts.get("patient", Path(image).stem)),
            )
        )
    return triplets


def _entries(index: Path) -> dict[str, list[dict[str, str]]]:
    """Image -> masks, each by its path the name of its target.

    Raises:
        InputError: the file can't be read or holds something else; the text names the image.
    """
    shape = 'it must map images to lists of masks: {"IMAGE": [{"MASK": "NAME OF TARGET"}]}'
    try:
        entries = json.loads(index.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{index}: can't be read as an index ({error}); {shape}") from error
    if not isinstance(entries, dict) or not entries:
        raise InputError(f"{index}: is no index, or one of no image; {shape}")
    for image, masks in entries.items():
        listed = masks if isinstance(masks, list) else [None]
        named = [name for mask in listed for name in (mask.values() if isinstance(mask, dict) else [None])]
        if not all(isinstance(name, str) for name in named):
            raise InputError(f"{index}: {image} has no list of masks; {shape}")
    return entries


def _provenance(path: Path) -> dict[str, dict[str, object]]:
    """What is known of each image beside its masks; nothing where there is no such file.

    Raises:
        InputError: a line is no JSON object with the image; the text names it.
    """
    if not path.exists():
        return {}
    known = {}
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        try:
            facts = json.loads(line)
            known[str(facts["image"])] = dict(facts)
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}, line {number}: must be a JSON object with `image`") from error
    return known
