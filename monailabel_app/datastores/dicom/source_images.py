"""Images of an archive, from their source instances on the disk."""

from __future__ import annotations

import json
import threading
from pathlib import Path

from dicom_bridge.errors import SeriesGeometryError
from dicom_bridge.series.images import read_series
from monailabel_app.datastores.dicom.archived_labels import ArchivedImage
from monailabel_app.datastores.dicom.series_cache import SeriesCache
from rcmed.durable_files import write_durably
from rcmed.errors import InputError
from rcmed.image import Image

_VERDICT = ".verdict.json"


class SourceImages:
    """Source instances of images, fetched where they are not there yet; the image read last is kept."""

    def __init__(self, cache: SeriesCache) -> None:
        self._cache = cache
        self._lock = threading.Lock()
        self._last: tuple[tuple[str, str], Image] | None = None

    def path_of(self, image: ArchivedImage) -> Path:
        """A folder with exactly the instances of an image; the file, for one of several pictures in a series.

        Raises:
            InputError: its instances do not make one image on one grid; with the reason.
            PeerError: it can't be fetched.
        """
        folder = self._cache.folder_of(image.series)
        path = folder if image.instance_uid is None else folder / f"{image.instance_uid}.dcm"
        _require_one_image(folder, path, _name(image))
        return path

    def read(self, image: ArchivedImage) -> Image:
        """An image with its source instances; raises as `path_of`."""
        path = self.path_of(image)
        key = (image.identifier, str(path))
        with self._lock:
            if self._last is None or self._last[0] != key:
                self._last = key, read_one_image(path, _name(image))
            return self._last[1]


def read_one_image(path: Path, name: str) -> Image:
    """The one image that a file or the files of a folder make.

    Localizers beside a volume are left out.

    Args:
        name: of the image, for the message.
    Raises:
        InputError: they make none, or several, or one is damaged; with the reason of `dicom_bridge.series`.
    """
    files = [path] if path.is_file() else sorted(path.glob("*.dcm"))
    reading = read_series(files)
    faults = [refusal for refusal in reading.refusals if not refusal.left_out]
    if len(reading.images) == 1 and not faults:
        return reading.images[0]
    if faults:
        chief = max(faults, key=lambda refusal: len(refusal.paths))
        raise type(chief.reason)(f"{name}: {chief.reason}")
    raise SeriesGeometryError(
        f"{name}: its {len(files)} instances make {len(reading.images)} images that share no grid; send each as a "
        "series of its own"
    )


def _require_one_image(folder: Path, path: Path, name: str) -> None:
    """Check it once: what was found is noted in the folder, whose files never change."""
    note = folder / _VERDICT
    try:
        verdicts = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        verdicts = {}
    if path.name not in verdicts:
        try:
            read_one_image(path, name)
            verdicts[path.name] = ""
        except InputError as error:
            verdicts[path.name] = str(error)
        write_durably(note, json.dumps(verdicts).encode())
    if verdicts[path.name]:
        raise SeriesGeometryError(verdicts[path.name])


def _name(image: ArchivedImage) -> str:
    return f"image {image.identifier}"
