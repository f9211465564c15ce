"""The instances of a series in a folder of its own, fetched once."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
import threading
from pathlib import Path

from dicom_bridge.store.files.instance_files import require_uid
from monailabel_app.datastores.dicom.access import PeerError
from monailabel_app.datastores.dicom.archive import Archive, ArchivedSeries
from rcmed.errors import InputError

logger = logging.getLogger(__name__)

_USED = ".used"


class SeriesCache:
    """Folders `<series>/<hash of what it holds>/<SOP Instance UID>.dcm`; whole or not there at all."""

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
                instances = self._archive.instances(series)
            except PeerError as error:
                before = sorted(_folders(home), key=_last_used)
                if not before:
                    raise
                logger.warning("series %s is taken from the cache: %s", series.series_uid, error)
                return before[-1]
            if not instances:
                raise InputError(f"series {series.series_uid}: the archive has no instance of it any more")
            folder = home / hashlib.sha256(repr(instances).encode()).hexdigest()[:16]
            if not folder.is_dir():
                self._fetch(series, list(instances), folder)
            # A file in it, so that the folder itself is seen to be unchanged by those who keep what they read.
            (folder / _USED).touch()
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
        for folder in sorted(sizes, key=_last_used):
            if total <= self._maximum_bytes or folder == needed:
                continue
            shutil.rmtree(folder, ignore_errors=True)
            total -= sizes[folder]


def _last_used(folder: Path) -> float:
    try:
        return (folder / _USED).stat().st_mtime
    except OSError:
        return 0.0


def _folders(folder: Path) -> list[Path]:
    """The finished folders in a folder."""
    return [path for path in folder.glob("*") if path.is_dir() and not path.name.startswith(".")]
