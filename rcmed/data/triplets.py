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
from rcmed.image import Modality
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
        """The united mask of a target as bool (row, column); empty where the target is absent."""
        parts = [np.asarray(PillowImage.open(path).convert("L")) > 0 for path in self.masks.get(name, ())]
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
        InputError: the index can't be read or names a modality that is not known.
    """
    try:
        entries = json.loads(index.read_text())
    except (OSError, ValueError) as error:
        raise InputError(
            f"{index}: can't be read as an index ({error}); it must map images to lists of masks"
        ) from error
    provenance: dict[str, dict[str, object]] = {}
    known = root / "provenance.jsonl"
    if known.exists():
        provenance = {line["image"]: line for line in map(json.loads, known.read_text().splitlines())}
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
        assert isinstance(labelled, list)
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
