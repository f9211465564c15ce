"""Volumes with label maps in folders: `image.nii.gz`, `label.nii.gz` and `labels.json` that names the values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcmed.errors import InputError
from rcmed.image import Image
from rcmed.modality import Modality
from rcmed.readers import read_images
from rcmed.readers.label_maps import read_label_map
from rcmed.vocabulary.table import canonical_name

IMAGE, LABEL, NAMES = "image.nii.gz", "label.nii.gz", "labels.json"
# A structure that is annotated in two parts is annotated as a whole, too.
WHOLES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "hippocampus": ("anterior hippocampus", "posterior hippocampus"),
        "kidney": ("left kidney", "right kidney"),
        "lung": ("left lung", "right lung"),
    }
)


@dataclass(frozen=True)
class LabelledVolume:
    """A volume and its label map, not yet read.

    Attributes:
        folder: where its three files lie.
        name: of the case, the last part of the folder.
        dataset: the part of the folder above it.
        modality: of the image.
        patient: whose it is, where `labels.json` says so (`patient`); else the name without what follows a `__` and
            without the modality ("STS_002_ct" and "STS_002_mr" are one patient).
        values: by canonical target name, the values of the label map that are united.
    """

    folder: Path
    name: str
    dataset: str
    modality: Modality
    patient: str
    values: Mapping[str, tuple[int, ...]]

    def read(self) -> tuple[Image, dict[str, NDArray[np.bool_]]]:
        """The image, and by target its mask, bool (slice, row, column), on the image's grid.

        Raises:
            InputError: a file can't be read, or the label map does not lie on the image's voxels.
        """
        image = read_images(self.folder / IMAGE, self.modality)[0]
        labels = read_label_map(self.folder / LABEL, image)
        return image, {name: np.isin(labels, values) for name, values in self.values.items()}


def find_labelled_volumes(folder: Path) -> list[LabelledVolume]:
    """All volumes with label maps at or under a folder, in the order of their paths.

    Raises:
        InputError: there is none, or a `labels.json` is of another shape; names it.
    """
    cases = [_case(path) for path in sorted(folder.rglob(NAMES)) if (path.parent / IMAGE).exists()]
    if not cases:
        raise InputError(f"{folder}: holds no volume with a label map ({IMAGE}, {LABEL} and {NAMES} in a folder)")
    return cases


def _case(path: Path) -> LabelledVolume:
    shape = '{"modality": "ct", "labels": {"1": "liver"}}'
    try:
        facts: Any = json.loads(path.read_text())
        values: dict[str, tuple[int, ...]] = {}
        for value, name in facts["labels"].items():
            target = canonical_name(str(name))
            values[target] = (*values.get(target, ()), int(value))
        modality = Modality(facts["modality"])
        patient = facts.get("patient")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: does not name the values of a label map ({error}); it must be like {shape}"
        ) from error
    for whole, parts in WHOLES.items():
        if whole not in values and all(part in values for part in parts):
            values[whole] = tuple(value for part in parts for value in values[part])
    folder = path.parent
    name = folder.name
    case = name.split("__")[0].removesuffix(f"_{modality.value}")
    return LabelledVolume(folder, name, folder.parent.name, modality, str(patient or case), values)
