"""Labelled images as one ZIP file."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monailabel_app.datastores.volumes_as_nrrd import image_as_nrrd
from rcmed.durable_files import replaced
from rcmed.image import Image


def zip_dataset(
    path: Path, pairs: Sequence[Mapping[str, Any]], description: Mapping[str, Any], read: Callable[[str], Image]
) -> None:
    """Write `image/<image id>.nrrd`, `label/<label id>.seg.nrrd` and `metadata.json`; the file appears whole.

    Args:
        path: of the ZIP; an older one is replaced.
        pairs: with `image_id`, `label_id` and the path of the `label`.
        description: becomes `metadata.json`.
        read: gives an image by its id.
    """
    with replaced(path) as part, zipfile.ZipFile(part, "x", zipfile.ZIP_STORED) as archive:
        for image_id in dict.fromkeys(str(pair["image_id"]) for pair in pairs):
            archive.writestr(f"image/{image_id}.nrrd", image_as_nrrd(read(image_id)))
        for pair in pairs:
            archive.write(pair["label"], f"label/{pair['label_id']}.seg.nrrd")
        archive.writestr("metadata.json", json.dumps({**description, "pairs": _plain(pairs)}, indent=1))


def _plain(pairs: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    return [
        {
            "image": f"image/{pair['image_id']}.nrrd",
            "label": f"label/{pair['label_id']}.seg.nrrd",
            "tag": str(pair["label_tag"]),
        }
        for pair in pairs
    ]
