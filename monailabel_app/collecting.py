"""From MONAI Label's datastore to collected corrections: what users submitted, with names, user and time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore, DefaultLabelTag

from rcmed.data.collected import values_on, write_correction
from rcmed.errors import RCMedError
from rcmed.image import Modality
from rcmed.readers import read_images

ModalityOf = Callable[[str, Mapping[str, Any]], Modality | None]


def modality_told(_: str, info: Mapping[str, Any]) -> Modality | None:
    """The modality that an image's record tells; None: the file says itself."""
    told = str(info.get("modality", "")).lower()
    return Modality(told) if told in set(Modality) else None


def segment_names(label_info: Mapping[str, Any]) -> dict[int, str]:
    """What the values of a submitted label map mean.

    3D Slicer sends `label_info: [{"name": ..., "idx": ...}]`; a result that was stored unchanged has
    `params: {"label_names": {name: value}}`.
    """
    listed = label_info.get("label_info")
    if isinstance(listed, list):
        pairs = [(each.get("idx"), each.get("name")) for each in listed if isinstance(each, dict)]
    else:
        params = label_info.get("params")
        named = params.get("label_names") if isinstance(params, dict) else None
        pairs = [(value, name) for name, value in named.items()] if isinstance(named, dict) else []
    return {value: name for value, name in pairs if isinstance(value, int) and value > 0 and isinstance(name, str)}


def collect(datastore: Datastore, collected: Path, modality_of: ModalityOf = modality_told) -> list[str]:
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
        told, about = datastore.get_label_info(label_id, tag), datastore.get_image_info(image_id)
        path, label_path = Path(datastore.get_image_uri(image_id)), Path(datastore.get_label_uri(label_id, tag))
        try:
            names = segment_names(told)
            absent = [name for name in told.get("absent", ()) if isinstance(name, str)]
            if not names and not absent:
                refused.append(f"{label_path}: its submission names no segment; name them and submit again")
                continue
            image = read_images(path, modality_of(image_id, about))[0]
            values = values_on(image, label_path)
            patient = str(about.get("patient") or about.get("PatientID") or image_id)
            write_correction(
                collected,
                path,
                {name: values == value for value, name in names.items() if (values == value).any()},
                modality=image.modality,
                image_id=image_id,
                # Who it is does not matter, only that it is the same one.
                patient=hashlib.sha256(patient.encode()).hexdigest()[:16],
                user=str(told.get("user") or told.get("client_id") or ""),
                absent=absent,
                time=datetime.fromtimestamp(int(told.get("ts", 0)), UTC),
            )
        except RCMedError as error:
            refused.append(str(error))
    return refused
