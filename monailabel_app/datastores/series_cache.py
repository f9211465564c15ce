"""The instances of a series in a folder of its own, fetched once, and whether they make one image."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
import threading
from pathlib import Path

from dicom_bridge.errors import SeriesGeometryError
from dicom_bridge.series.read import read_series
from dicom_bridge.store.files import require_uid, write_durably
from monailabel_app.datastores.access import PeerError
from monailabel_app.datastores.archive import Archive, ArchivedSeries
from rcmed.errors import InputError
from rcmed.image import Image

logger = logging.getLogger(__name__)

_VERDICT = ".verdict.json"


class SeriesCache:
    """Folders `<series>/<hash of its instances>/<SOP Instance UID>.dcm`; whole or not there at all."""

    def __init__(self, root: Path, archive: Archive, maximum_bytes: int) -> None:
        """Keep at most `maximum_bytes` of fetched files; the series not used for longest go first."""
        self._root = root
        self._archive = archive
        self._maximum_bytes = maximum_bytes
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def folder_of(self, series: ArchivedSeries) -> Path:
        """The folder with exactly the instances that the archive has of a series now.

        Where the archive can't be asked, what was fetched before will do.

        Raises:
            PeerError: the archive can't be asked, and nothing was fetched before; or the series came incomplete.
            InputError: larger than the limit.
        """
        home = self._root / require_uid(series.series_uid, "SeriesInstanceUID (0020,000E)")
        with self._lock:
            lock = self._locks.setdefault(series.series_uid, threading.Lock())
        with lock:
            try:
                uids = self._archive.instance_uids(series)
            except PeerError as error:
                before = sorted(_folders(home), key=lambda folder: folder.stat().st_mtime)
                if not before:
                    raise
                logger.warning("series %s is taken from the cache: %s", series.series_uid, error)
                return before[-1]
            if not uids:
                raise InputError(f"series {series.series_uid}: the archive has no instance of it any more")
            folder = home / hashlib.sha256("\n".join(uids).encode()).hexdigest()[:16]
            if not folder.is_dir():
                self._fetch(series, uids, folder)
            os.utime(folder)
            return folder

    def _fetch(self, series: ArchivedSeries, uids: list[str], folder: Path) -> None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder.parent))
        try:
            self._archive.fetch(series, partial)
            missing = {f"{uid}.dcm" for uid in uids} - set(os.listdir(partial))
            if missing:
                raise PeerError(f"series {series.series_uid}: {len(missing)} of {len(uids)} instances did not come")
            partial.replace(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        for other in _folders(folder.parent):
            if other != folder:
                shutil.rmtree(other, ignore_errors=True)
        self._make_room(folder)

    def _make_room(self, needed: Path) -> None:
        """Remove the series not used for longest until the limit is kept."""
        sizes = {folder: sum(file.lstat().st_size for file in folder.iterdir()) for folder in self._root.glob("*/*/")}
        total = sum(sizes.values())
        for folder in sorted(sizes, key=lambda folder: folder.stat().st_mtime):
            if total <= self._maximum_bytes or folder == needed:
                continue
            shutil.rmtree(folder, ignore_errors=True)
            total -= sizes[folder]


def read_one_image(path: Path, name: str) -> Image:
    """The one image that a file or the files of a folder make.

    Localizers beside a volume are left out, with a warning in the image.

    Raises:
        InputError: they make none, or several; with the reason of `dicom_bridge.series`.
    """
    files = [path] if path.is_file() else sorted(path.glob("*.dcm"))
    reading = read_series(files)
    if len(reading.images) == 1 and all(refusal.left_out for refusal in reading.refusals):
        return reading.images[0]
    if reading.refusals:
        chief = max(reading.refusals, key=lambda refusal: len(refusal.paths))
        raise type(chief.reason)(f"{name}: {chief.reason}")
    raise SeriesGeometryError(
        f"{name}: its {len(files)} instances make {len(reading.images)} images that share no grid; send each as a "
        "series of its own"
    )


def require_one_image(folder: Path, path: Path, name: str) -> None:
    """Check that a fetched file or folder makes one image; what was found is noted in the folder, and holds.

    Raises:
        InputError: it does not; with the reason.
    """
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


def _folders(folder: Path) -> list[Path]:
    """The finished folders in a folder."""
    return [path for path in folder.glob("*") if path.is_dir() and not path.name.startswith(".")]
