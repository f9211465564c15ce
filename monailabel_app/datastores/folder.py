"""A folder of NIfTI, NRRD, MHA and pictures, with MONAI Label's layout of labels: `labels/<tag>/<id>.<suffix>`.

MONAI Label's own store takes any text for an id or a tag as part of a path, cuts a suffix out of the middle of a name,
passes over upper-case suffixes, and leaves an answer out of date after a removal.
"""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from typing import Any

from monailabel.datastore.local import LocalDatastore
from monailabel.interfaces.exception import ImageNotFoundException, LabelNotFoundException

from monailabel_app.datastores.label_files import read_label
from monailabel_app.names import require_id, require_tag
from rcmed.errors import ConfigurationError, InputError, UnreadableFileError
from rcmed.modality import Modality
from rcmed.readers import modality_from_name, read_images

logger = logging.getLogger(__name__)

SUFFIXES = (
    ".seg.nrrd",
    ".nii.gz",
    ".nii",
    ".nrrd",
    ".mha",
    ".png",
    ".jpg",
    ".jpeg",
    ".tif",
    ".tiff",
    ".bmp",
)
"""Longer ones first, so that the whole suffix is cut off."""
LABEL_SUFFIXES = (".seg.nrrd", ".nii.gz", ".nii", ".nrrd", ".mha", ".png", ".tif", ".tiff")


class FolderDatastore(LocalDatastore):  # type: ignore[misc]
    """Images are the files of one folder; the id is the name without its suffix."""

    def __init__(self, folder: str | Path, watch: bool = True) -> None:
        """Open a folder.

        Args:
            watch: take up files that are put in or removed later.
        Raises:
            InputError: there is no such folder.
        """
        if not Path(folder).is_dir():
            raise UnreadableFileError(f"{folder}: no such folder; give a folder of images with --studies")
        self._guard = threading.RLock()
        super().__init__(str(Path(folder).resolve()), extensions=[f"*{s}" for s in SUFFIXES], auto_reload=watch)

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Copy an image in.

        Raises:
            InputError: the id is none, the file's suffix is unknown, or the id is taken.
        """
        name, _ = self._to_id(os.path.basename(image_filename))
        image_id = require_id(image_id or name, "image")
        self._require_suffix(image_filename, SUFFIXES)
        with self._guard:
            if image_id in self._datastore.objects:
                raise InputError(f"image '{image_id}' is there already: choose another id, or remove it first")
            return str(super().add_image(image_id, image_filename, image_info))

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """Copy a label in.

        Raises:
            ImageNotFoundException: no such image.
            InputError: the tag is none, the file can't be read, or it does not lie on the image's voxels.
        """
        require_id(image_id, "image")
        tag = require_tag(str(getattr(label_tag, "value", label_tag)))
        self._require_suffix(label_filename, LABEL_SUFFIXES)
        with self._guard:
            if image_id not in self._datastore.objects:
                raise ImageNotFoundException(f"image '{image_id}' is not in the store")
            _require_on_image(Path(self.get_image_uri(image_id)), Path(label_filename))
            before = self.get_label_uri(image_id, tag)
            saved = str(super().save_label(image_id, label_filename, tag, label_info))
            # A label of another suffix would come back at the next start.
            if before and before != self.get_label_uri(image_id, tag):
                Path(before).unlink(missing_ok=True)
            return saved

    def remove_image(self, image_id: str) -> None:
        """Remove an image with its labels.

        Raises:
            ImageNotFoundException: no such image.
        """
        require_id(image_id, "image")
        with self._guard:
            super().remove_image(image_id)
            self.refresh()

    def remove_label(self, label_id: str, label_tag: str) -> None:
        """Remove a label.

        Raises:
            LabelNotFoundException: no such label.
        """
        require_id(label_id, "label")
        tag = require_tag(str(getattr(label_tag, "value", label_tag)))
        with self._guard:
            uri = self.get_label_uri(label_id, tag)
            if not uri:
                raise LabelNotFoundException(f"label '{label_id}' with tag '{tag}' is not in the store")
            Path(uri).unlink(missing_ok=True)
            self.refresh()

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        """Add to what is known of an image."""
        with self._guard:
            super().update_image_info(require_id(image_id, "image"), info)

    def update_label_info(self, label_id: str, label_tag: str, info: dict[str, Any]) -> None:
        """Add to what is known of a label."""
        with self._guard:
            super().update_label_info(require_id(label_id, "label"), require_tag(label_tag), info)

    def refresh(self) -> None:
        """Take up what changed on disk."""
        with self._guard:
            super().refresh()

    def _to_id(self, file: str) -> tuple[str, str]:
        for suffix in SUFFIXES:
            if file.lower().endswith(suffix):
                return file[: -len(suffix)], file[-len(suffix) :]
        stem, suffix = os.path.splitext(file)
        return stem, suffix

    def _list_files(self, path: str, patterns: list[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        ids: dict[str, str] = {}
        for file in sorted(os.listdir(path)):
            if (
                file.startswith(".")
                or not file.lower().endswith(SUFFIXES)
                or not os.path.isfile(os.path.join(path, file))
            ):
                continue
            image_id, _ = self._to_id(file)
            try:
                require_id(image_id, "image")
            except InputError as error:
                logger.warning("left out: %s", error)
                continue
            if image_id in ids:
                logger.warning("left out: %s has the id of %s; rename one of them", file, ids[image_id])
                continue
            ids[image_id] = file
            found[file] = file
        return found

    @staticmethod
    def _require_suffix(file: str, suffixes: tuple[str, ...]) -> None:
        if not file.lower().endswith(suffixes):
            raise InputError(f"{os.path.basename(file)}: its suffix must be one of {', '.join(suffixes)}")


def _require_on_image(image: Path, label: Path) -> None:
    """Read a label as it will be learned from: what does not lie on its image's voxels is refused when it is sent.

    Names may be told later (`update_label_info`).
    """
    try:
        modality = modality_from_name(image)
    except ConfigurationError:
        # A label goes by place; how its image is cut into slices does not matter.
        modality = Modality.MR
    read_label(label, read_images(image, modality)[0], {})
