"""From MONAI Label's datastore to collected corrections: what users submitted, with names, user and time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from numpy.typing import NDArray

from monailabel_app.datastores.dicom.datastore import DicomDatastore
from monailabel_app.datastores.label_files import read_label
from rcmed.data.collected import write_correction
from rcmed.errors import RCMedError
from rcmed.image import Image
from rcmed.modality import Modality
from rcmed.readers import read_images

ModalityOf = Callable[[str, Mapping[str, Any]], Modality | None]


def modality_in(_: str, info: Mapping[str, Any]) -> Modality | None:
    """The modality that an image's record tells; None: the file says itself."""
    name = str(info.get("modality", "")).lower()
    return Modality(name) if name in set(Modality) else None


def collect(datastore: Datastore, collected: Path, modality_of: ModalityOf = modality_in) -> list[str]:
    """Keep every submitted label (tag `final`) as a correction; one that is there already is not kept twice.

    Args:
        datastore: of the server; `get_label_info` tells `label_info` (names), `user` or `client_id`, `ts` (seconds)
            and, where the user said so, `absent` (names); `get_image_info` tells `patient` (or `PatientID`) and
            `modality`, if known.
        collected: the folder of corrections.
        modality_of: an image's modality by its id and record.
    Returns:
        a line for each label that can't be used.
    """
    refused = []
    tag = DefaultLabelTag.FINAL.value
    for image_id in sorted(datastore.get_labeled_images(tag)):
        label_id = datastore.get_label_by_image_id(image_id, tag)
        of_label, about = datastore.get_label_info(label_id, tag), datastore.get_image_info(image_id)
        path, label_path = Path(datastore.get_image_uri(image_id)), Path(datastore.get_label_uri(label_id, tag))
        try:
            absent = [name for name in of_label.get("absent", ()) if isinstance(name, str)]
            image = read_images(path, modality_of(image_id, about))[0]
            masks = submitted_masks(datastore, image, label_id, tag, of_label)
            if not masks and not absent:
                refused.append(f"{label_path}: holds no segment that its submission names; name them and submit again")
                continue
            patient = str(about.get("patient") or about.get("PatientID") or image_id)
            write_correction(
                collected,
                path,
                masks,
                modality=image.modality,
                image_id=image_id,
                # Who it is does not matter, only that it is the same one.
                patient=hashlib.sha256(patient.encode()).hexdigest()[:16],
                user=str(of_label.get("user") or of_label.get("client_id") or ""),
                absent=absent,
                time=datetime.fromtimestamp(int(of_label.get("ts", 0)), UTC),
            )
        except RCMedError as error:
            refused.append(str(error))
    return refused


def submitted_masks(
    datastore: Datastore, image: Image, label_id: str, tag: str, of_label: Mapping[str, Any]
) -> dict[str, NDArray[np.bool_]]:
    """Masks of a submitted label by name, bool (slice, row, column) on the image's grid; none is empty.

    Of a DICOM store they come from its SEG, of a folder from the file, by the rules by which a SEG is made of a file
    (`datastores.label_files.read_label`): the same label has the same names in both, and segments may overlap.

    Raises:
        InputError: the label can't be read, or a value has no name.
        GridMismatchError: it does not lie on the image's voxels.
    """
    if isinstance(datastore, DicomDatastore):
        segments = datastore.read_label(label_id, tag).segments
        return _united((segment.label, segment.mask) for segment in segments if segment.mask.any())
    drawn = read_label(Path(datastore.get_label_uri(label_id, tag)), image, of_label)
    return _united((segment.name, segment.mask) for segment in drawn)


def _united(named: Iterable[tuple[str, NDArray[np.bool_]]]) -> dict[str, NDArray[np.bool_]]:
    """Masks by name: several of one name are one."""
    masks: dict[str, NDArray[np.bool_]] = {}
    for name, mask in named:
        masks[name] = masks[name] | mask if name in masks else mask
    return masks
