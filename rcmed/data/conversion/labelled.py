"""What a case of a data set says: an image, masks by target, and which targets were annotated at all."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rcmed.data.conversion.layouts import TARGET, Case, Layout, Split
from rcmed.errors import ConfigurationError, InputError
from rcmed.image import Image
from rcmed.modality import Modality
from rcmed.readers import modality_from_name, read_images, suffix_of
from rcmed.readers.label_maps import read_label_map
from rcmed.vocabulary.named import sole_target

OWN = "own"
"""Name of the data set that a folder of one's own becomes."""


@dataclass(frozen=True)
class LabelledCase:
    """A case, not yet read.

    Attributes:
        dataset, name, patient: of the case.
        split: it belongs to.
        image: file of the image.
        modality: None where the file name tells.
        channel: of images with several.
        masks: target -> binary mask files that are united; None where there is a label map.
        label_map, values: the label map, and target -> its values that are united.
        licence: of the data set.
    """

    dataset: str
    name: str
    patient: str
    split: Split
    image: Path
    modality: Modality | None
    licence: str
    channel: int | None = None
    masks: dict[str, tuple[Path, ...]] | None = None
    label_map: Path | None = None
    values: dict[str, tuple[int, ...]] | None = None

    def read(self) -> tuple[Image, dict[str, NDArray[np.bool_]]]:
        """The image, and by each target that was annotated its mask on the image's grid; empty where it is absent.

        Raises:
            InputError: image or labels can't be read, or do not lie on one grid.
            ConfigurationError: the modality can't be told.
        """
        image = read_images(self.image, self.modality, self.channel)[0]
        if self.label_map is not None and self.values is not None:
            labels = read_label_map(self.label_map, image)
            return image, {name: np.isin(labels, values) for name, values in self.values.items()}
        return image, {name: _union(image, paths) for name, paths in (self.masks or {}).items()}


def cases_of_layout(layout: Layout, source: Path, test_share: float) -> Iterator[LabelledCase]:
    """The cases of a public data set.

    Raises:
        InputError: none is there, or the table of splits can't be read.
    """
    held_out = _held_out(layout, source)
    empty = True
    for case in layout.cases(source):
        empty = False
        split = case.split
        if split is None:
            is_held_out = case.name in held_out if held_out is not None else is_test(case.name, test_share)
            split = "test" if is_held_out else "train"
        yield _with_labels(layout, case, split)
    if empty:
        wanted = " or ".join(f"{part.images}" for part in layout.parts)
        raise InputError(f"{source}: holds no {layout.name} ({wanted}); name the folder that was unpacked")


def _with_labels(layout: Layout, case: Case, split: Split) -> LabelledCase:
    modality = layout.modality_of(case.name)
    if modality is None:
        raise InputError(f"{case.image}: no rule of {layout.name} tells the modality of {case.name}; remove it")
    masks = values = None
    if TARGET in str(case.labels):
        masks = {}
        for target, names in layout.targets.items():
            paths = tuple(Path(str(case.labels).replace(TARGET, str(name))) for name in names)
            # A structure with a part missing was not annotated: nothing can be said of it.
            if all(path.exists() for path in paths):
                masks[target] = paths
    else:
        values = {target: tuple(int(value) for value in taken) for target, taken in layout.targets.items()}
    return LabelledCase(
        dataset=layout.name,
        name=case.name,
        patient=case.name,
        split=split,
        image=case.image,
        modality=modality,
        licence=layout.licence,
        channel=layout.channel,
        masks=masks,
        label_map=None if values is None else case.labels,
        values=values,
    )


def cases_of_own(source: Path, modality: Modality | None, test_share: float) -> Iterator[LabelledCase]:
    """The cases of a folder of one's own: `images/NAME.png`, `masks/TARGET/NAME.png`.

    A mask is named as its image up to the suffix; above 0 is the target, an empty mask says that it is absent, and no
    mask says nothing. `images/PATIENT/NAME.png` with `masks/TARGET/PATIENT/NAME.png` keeps a patient's images together
    when some are held out; without such folders each image is a patient's. Volumes lie there likewise.

    Raises:
        InputError: there is no image with a mask.
    """
    images, masks = source / "images", source / "masks"
    targets = sorted(path for path in masks.glob("*") if path.is_dir() and not path.name.startswith("."))
    by_stem: dict[Path, dict[str, tuple[Path, ...]]] = {}
    for folder in targets:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                key = path.relative_to(folder).with_name(_stem(path))
                by_stem.setdefault(key, {})[folder.name] = (path,)
    empty = True
    for path in sorted(images.rglob("*")):
        relative = path.relative_to(images)
        key = relative.with_name(_stem(path))
        if not path.is_file() or path.name.startswith(".") or key not in by_stem:
            continue
        empty = False
        patient = relative.parts[0] if len(relative.parts) > 1 else _stem(path)
        known = modality or _modality_by_name(path)
        yield LabelledCase(
            dataset=OWN,
            name="_".join(key.parts).replace("--", "_"),
            patient=patient,
            split="test" if is_test(patient, test_share) else "train",
            image=path,
            modality=modality,
            licence="one's own",
            masks={_canonical(name, known): paths for name, paths in by_stem[key].items()},
        )
    if empty:
        raise InputError(f"{source}: holds no image with a mask; images/NAME.png and masks/TARGET/NAME.png are needed")


def is_test(patient: str, share: float) -> bool:
    """Whether a patient is held out: by the name alone, so that it stays so when others come."""
    digest = hashlib.sha256(f"test {patient}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64 < share


def _held_out(layout: Layout, source: Path) -> set[str] | None:
    table = layout.split_table
    if table is None or not (source / table.file).exists():
        return None
    with (source / table.file).open(newline="", encoding="utf-8-sig") as opened:
        rows = list(csv.DictReader(opened, delimiter=table.delimiter))
    if rows and not {table.case, table.split} <= set(rows[0]):
        raise InputError(f"{source / table.file}: lacks the columns {table.case} and {table.split}; mend or remove it")
    return {row[table.case] for row in rows if row[table.split] in table.test}


def _canonical(name: str, modality: Modality | None) -> str:
    """The vocabulary's name where a folder's name means one target of it; else the name itself in lower case."""
    words = " ".join(name.replace("_", " ").replace("-", " ").lower().split())
    target = sole_target(words, modality) if modality is not None else None
    return words if target is None else target.name


def _modality_by_name(path: Path) -> Modality | None:
    try:
        return modality_from_name(path)
    except ConfigurationError:
        return None


def _union(image: Image, paths: tuple[Path, ...]) -> NDArray[np.bool_]:
    united = np.zeros(image.grid.shape, dtype=bool)
    for path in paths:
        united |= read_label_map(path, image) > 0
    return united


def _stem(path: Path) -> str:
    return path.name[: -len(suffix_of(path))] if suffix_of(path) else path.name
