"""What an annotation server collected: images with submitted masks by target name, who drew them and when.

A folder holds one folder for each correction:

    CORRECTION/
        correction.json   {"image": "image.nii.gz", "image_id": "...", "modality": "ct", "patient": "...",
                           "masks": [{"file": "labels.nii.gz", "names": {"1": "liver", "2": "spleen"}}],
                           "absent": ["left kidney"], "user": "...", "time": "2025-01-31T12:00:00+00:00"}
        image.nii.gz      whatever `rcmed.readers` reads, also a folder of DICOM instances
        labels.nii.gz     label maps on the image's grid; several, where targets overlap

A slice teaches the targets that have a mask in it, and the absence of those that are said to be absent from the whole
image; of every other target it says nothing. Names are those of the vocabulary or their synonyms. A name that the
vocabulary does not know is refused with a line, and the rest of the correction is taken: no prompt could ask for it,
and it has no codes for a report. Such a target is taught by examples instead (`Assistant.with_examples`).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rcmed.errors import RCMedError
from rcmed.image import Image
from rcmed.inference.viewing import ReaderView
from rcmed.modality import Modality
from rcmed.model.processor import to_eight_bit
from rcmed.readers import mask_suffix, read_images, suffix_of, write_mask
from rcmed.readers.label_maps import read_label_map
from rcmed.vocabulary import resolve_targets

# Neighbouring slices say nearly the same.
MOST_SLICES = 24
_DESCRIPTION = "correction.json"


class LabelMap(BaseModel):
    """A file of labels on the image's grid, with what its values mean."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str = Field(pattern=r"^[^/\\]+$")
    names: dict[int, str]


class Description(BaseModel):
    """`correction.json`; keys as in the module's docstring."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: str = Field(pattern=r"^[^/\\]+$")
    image_id: str
    modality: Modality
    patient: str
    masks: tuple[LabelMap, ...] = ()
    absent: tuple[str, ...] = ()
    user: str = ""
    time: datetime


@dataclass(frozen=True, eq=False)
class CollectedSlice:
    """A slice as a radiologist sees it, with what was said of it.

    Attributes:
        correction: identifier of the correction that it comes from.
        patient: of whom the image is; slices of a patient are never parted between training and judging.
        user: who drew the masks.
        pixels: uint8 (row, column, 3).
        masks: by canonical target name, bool (row, column), none of them empty.
        absent: canonical names of targets that are said not to be in the image.
        modality: of the image.
    """

    correction: str
    patient: str
    user: str
    pixels: NDArray[np.uint8]
    masks: dict[str, NDArray[np.bool_]]
    absent: tuple[str, ...]
    modality: Modality


@dataclass(frozen=True)
class Correction:
    """A correction on disk, not yet read.

    Attributes:
        folder: that it lies in; its name is the correction's identifier.
        description: what `correction.json` says.
    """

    folder: Path
    description: Description

    @property
    def identifier(self) -> str:
        """Name of the folder, unique among the collected ones."""
        return self.folder.name

    def read(self) -> tuple[list[CollectedSlice], list[str]]:
        """The slices that teach something, and a line for each part that was refused.

        Raises:
            InputError: image or label map can't be read, or do not lie on one grid.
        """
        description = self.description
        refused: list[str] = []
        image = read_images(self.folder / description.image, description.modality)[0]
        masks: dict[str, NDArray[np.bool_]] = {}
        for label_map in description.masks:
            values = read_label_map(self.folder / label_map.file, image)
            for value, called in label_map.names.items():
                name = self._canonical(called, refused)
                if name is None:
                    continue
                mask = values == value
                if mask.any():
                    masks[name] = masks.get(name, np.zeros_like(mask)) | mask
                else:
                    refused.append(
                        f"{self.folder / label_map.file}: `{called}` is empty; list it in `absent` if it is not there"
                    )
        absent = []
        for called in description.absent:
            name = self._canonical(called, refused)
            if name in masks:
                refused.append(
                    f"{self.folder / _DESCRIPTION}: `{called}` has a mask and is said to be absent; mend one"
                )
            elif name is not None:
                absent.append(name)
        return self._slices(image, masks, tuple(dict.fromkeys(absent))), refused

    def _canonical(self, called: str, refused: list[str]) -> str | None:
        resolution = resolve_targets(called, self.description.modality)
        if len(resolution.targets) == 1 and not resolution.unresolved:
            return resolution.targets[0].name
        reason = resolution.unresolved[0] if resolution.unresolved else f"`{called}` names several targets"
        refused.append(f"{self.folder / _DESCRIPTION}: {reason}; rename the segment, or teach it by examples")
        return None

    def _slices(
        self, image: Image, masks: Mapping[str, NDArray[np.bool_]], absent: tuple[str, ...]
    ) -> list[CollectedSlice]:
        view = ReaderView.of(image.grid)
        pixels = view.to_view(to_eight_bit(image))
        shown = {name: view.to_view(mask) for name, mask in sorted(masks.items())}
        telling = [i for i in range(len(pixels)) if absent or any(mask[i].any() for mask in shown.values())]
        places = np.linspace(0, len(telling) - 1, min(MOST_SLICES, len(telling))).round().astype(int)
        return [
            CollectedSlice(
                correction=self.identifier,
                patient=self.description.patient,
                user=self.description.user,
                pixels=np.ascontiguousarray(pixels[index]),
                masks={name: np.ascontiguousarray(mask[index]) for name, mask in shown.items() if mask[index].any()},
                absent=absent,
                modality=image.modality,
            )
            for index in (telling[place] for place in places)
        ]


def write_correction(
    collected: Path,
    image_path: Path,
    masks: Mapping[str, NDArray[np.bool_]],
    *,
    modality: Modality,
    image_id: str,
    patient: str,
    user: str = "",
    absent: Sequence[str] = (),
    time: datetime | None = None,
) -> Correction:
    """Keep a correction; the folder appears at once and whole.

    Args:
        collected: the folder of corrections.
        image_path: a file or folder that `rcmed.readers` reads; is copied.
        masks: by target name, bool (slice, row, column) on the image's grid; they may overlap.
        modality: of the image.
        image_id: of the image where it was annotated; a later correction of the same image and target replaces this.
        patient: of whom the image is; the image's own identifier where nobody knows.
        user: who drew the masks.
        absent: targets that are not in the image.
        time: of the submission; now, where it is not given.
    Raises:
        InputError: the image can't be read.
        GridMismatchError: a mask does not lie on the image's grid.
    """
    image = read_images(image_path, modality)[0]
    time = time or datetime.now(UTC)
    collected.mkdir(parents=True, exist_ok=True)
    partial = Path(mkdtemp(prefix=".partial-", dir=collected))
    try:
        kept = "image" + ("" if image_path.is_dir() else suffix_of(image_path))
        if image_path.is_dir():
            shutil.copytree(image_path, partial / kept)
        else:
            shutil.copyfile(image_path, partial / kept)
        label_maps = []
        # A file for each target, so that overlaps survive.
        for number, (name, mask) in enumerate(sorted(masks.items()), start=1):
            file = f"mask-{number}{mask_suffix(image)}"
            write_mask(mask, image, partial / file)
            value = 1 if suffix_of(partial / file) == ".nii.gz" else 255
            label_maps.append(LabelMap(file=file, names={value: name}))
        description = Description(
            image=kept,
            image_id=image_id,
            modality=image.modality,
            patient=patient,
            masks=tuple(label_maps),
            absent=tuple(absent),
            user=user,
            time=time,
        )
        (partial / _DESCRIPTION).write_text(description.model_dump_json(indent=2) + "\n")
        content = hashlib.sha256(description.model_dump_json().encode())
        for path in sorted(partial.glob("mask-*")):
            content.update(path.read_bytes())
        folder = collected / f"{time.astimezone(UTC):%Y%m%dT%H%M%S}-{content.hexdigest()[:16]}"
        if folder.exists():
            shutil.rmtree(partial)
        else:
            os.replace(partial, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return Correction(folder, description)


def list_corrections(collected: Path) -> tuple[list[Correction], list[str]]:
    """All corrections of a folder by time, and a line for each that can't be used.

    Of an image and a target only the latest submission is left: it replaces what was drawn before.
    """
    found: list[Correction] = []
    refused: list[str] = []
    for path in sorted(collected.glob(f"*/{_DESCRIPTION}")):
        if path.parent.name.startswith("."):
            continue
        try:
            found.append(Correction(path.parent, Description.model_validate_json(path.read_text())))
        except (OSError, ValidationError) as error:
            reason = (
                f"{'.'.join(map(str, error.errors()[0]['loc']))}: {error.errors()[0]['msg']}"
                if isinstance(error, ValidationError)
                else str(error)
            )
            refused.append(f"{path}: {reason}; mend or remove it")
    found.sort(key=lambda each: (each.description.time.astimezone(UTC), each.identifier))
    latest: dict[tuple[str, str], str] = {}
    for each in found:
        for name in _names(each.description):
            latest[each.description.image_id, name] = each.identifier
    left = []
    for each in found:
        description = each.description

        def is_latest(name: str, description: Description = description, identifier: str = each.identifier) -> bool:
            return latest[description.image_id, _plain(name)] == identifier

        masks = tuple(
            LabelMap(file=m.file, names={value: name for value, name in m.names.items() if is_latest(name)})
            for m in description.masks
        )
        still = description.model_copy(
            update={
                "masks": tuple(m for m in masks if m.names),
                "absent": tuple(name for name in description.absent if is_latest(name)),
            }
        )
        if still.masks or still.absent:
            left.append(Correction(each.folder, still))
    return left, refused


def read_slices(corrections: Sequence[Correction]) -> tuple[list[CollectedSlice], list[str]]:
    """The slices of corrections, and a line for each correction or part of one that was refused."""
    slices: list[CollectedSlice] = []
    refused: list[str] = []
    for correction in corrections:
        try:
            taken, lines = correction.read()
        except RCMedError as error:
            taken, lines = [], [str(error)]
        slices += taken
        refused += lines
    return slices, refused


def _plain(name: str) -> str:
    return " ".join(name.lower().split())


def _names(description: Description) -> set[str]:
    names = [name for label_map in description.masks for name in label_map.names.values()]
    return {_plain(name) for name in (*names, *description.absent)}


def patient_bucket(patient: str) -> int:
    """0 to 99 by the patient alone: who is held out once is held out always."""
    digest = hashlib.sha256(json.dumps(["held out", patient]).encode()).digest()
    return int.from_bytes(digest[:8]) % 100
