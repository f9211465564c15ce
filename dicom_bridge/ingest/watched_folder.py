"""A watched folder: DICOM files that are put there are taken as if they had been sent.

A file is taken when it has not changed for a while and has its end, so that one which is still being copied is left
alone; then it is moved to `taken` (or deleted), or to `refused` with a line that says why. What we lack room for stays
where it is. Links are not followed. While files are waited for, the studies of those that were taken are not over.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from dicom_bridge.events.sink import Observer
from dicom_bridge.ingest.intake import InstanceIntake, Origin, RefusedInstanceError
from dicom_bridge.ingest.wholeness import is_cut_short
from dicom_bridge.settings import WatchedFolderSettings

CALLING_AE = "FOLDER"
TAKEN, REFUSED = "taken", "refused"
PATIENCE_SECONDS = 600.0
"""A file without its end that has not changed for so long will get none: it is taken as it is, or refused."""
_LOG = logging.getLogger(__name__)


class WatchedFolder:
    """Looks into a folder, in a thread of its own."""

    def __init__(
        self,
        settings: WatchedFolderSettings,
        intake: InstanceIntake,
        observer: Observer,
        our_ae: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Prepare.

        Args:
            settings: which folder, how often; its `path` is set.
            intake: takes the instances; routes see them as from the AE title FOLDER.
            observer: is told of instances.
            our_ae: our AE title, which routes see as the called one.
            clock: seconds since the epoch.
        """
        assert settings.path is not None
        self._folder = settings.path
        self._settings = settings
        self._intake = intake
        self._observer = observer
        self._our_ae = our_ae
        self._clock = clock
        self._seen: dict[Path, tuple[int, int]] = {}
        self._cut: dict[Path, tuple[tuple[int, int], float]] = {}
        self._origin: Origin | None = None
        self._stopping = threading.Event()
        self._trouble = ""
        self._thread = threading.Thread(target=self._run, name="watched-folder", daemon=True)

    def start(self) -> None:
        """Start looking."""
        self._thread.start()

    def stop(self) -> None:
        """Stop; the rest is taken at the next start."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=30)
        self._end()

    def health(self) -> str:
        """ "ok", or what hinders the last look."""
        return self._trouble or "ok"

    def look(self) -> int:
        """Take what is settled; returns how many files were taken or refused.

        Raises:
            OSError: the folder can't be read, or a file can't be moved.
            DBAPIError: the index can't be written.
        """
        count = 0
        seen: dict[Path, tuple[int, int]] = {}
        try:
            for path, size, changed in _files(self._folder, without=(TAKEN, REFUSED)):
                if self._stopping.is_set():
                    break
                is_ready = self._is_settled(path, size, changed) and not self._is_waited_for(path, size, changed)
                if is_ready and self._take(path, size, self._opened()):
                    count += 1
                else:
                    seen[path] = (size, changed)
        finally:
            self._seen = seen
            self._cut = {path: cut for path, cut in self._cut.items() if path in seen}
            if not seen:
                self._end()
        return count

    def _opened(self) -> Origin:
        if self._origin is None:
            identifier = self._intake.index.open_association(CALLING_AE, self._our_ae, str(self._folder))
            self._origin = Origin(identifier, CALLING_AE, self._our_ae)
        return self._origin

    def _end(self) -> None:
        """Nothing is waited for now: what was taken may be complete."""
        origin, self._origin = self._origin, None
        if origin is not None:
            self._intake.end(origin)
            self._observer.instances_transferred(origin.association)

    def _run(self) -> None:
        while not self._stopping.wait(self._settings.poll_seconds):
            try:
                self.look()
                self._trouble = ""
            except (OSError, DBAPIError) as error:
                trouble = error.strerror if isinstance(error, OSError) else str(error.orig)
                if trouble != self._trouble:
                    _LOG.error("the watched folder %s: %s; looking again soon", self._folder, trouble)
                self._trouble = str(trouble)

    def _is_settled(self, path: Path, size: int, changed: int) -> bool:
        """Seen before as it is now, and old enough: a copy may keep the time of its original."""
        same = self._seen.get(path) == (size, changed)
        return same and self._clock() - changed / 1e9 >= self._settings.settled_seconds

    def _is_waited_for(self, path: Path, size: int, changed: int) -> bool:
        """Whether a settled file lacks its end and may still get it; said once."""
        try:
            if not is_cut_short(path):
                return False
        except OSError:
            return False  # taking it says what is wrong
        state, since = self._cut.get(path, (None, 0.0))
        if state != (size, changed):
            since = self._clock()
            self._cut[path] = (size, changed), since
            line = f"file {path.name} waits in the watched folder: it has no end, and may still be written"
            self._intake.index.add_line(line, level="warning")
        return self._clock() - since < PATIENCE_SECONDS

    def _take(self, path: Path, size: int, origin: Origin) -> bool:
        """False: it stays, to be tried again."""
        try:
            self._intake.require_size(size)
            arrived = self._intake.take((path.read_bytes(),), origin)
        except FileNotFoundError:
            return True  # someone took it away again
        except RefusedInstanceError as error:
            if error.is_passing:
                self._intake.index.add_line(f"file {path.name} waits in the watched folder: {error}", level="warning")
                return False
            self._intake.index.add_line(f"file {path.name} of the watched folder refused: {error}")
            self._observer.instance_refused("folder", error.instance_uid or "of unknown UID", str(path), str(error))
            self._put(path, REFUSED)
            return True
        self._observer.instance_taken("folder", arrived.outcome, size)
        if self._settings.delete:
            path.unlink(missing_ok=True)
        else:
            self._put(path, TAKEN)
        return True

    def _put(self, path: Path, place: str) -> None:
        target = self._folder / place / path.relative_to(self._folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        while target.exists():
            target = target.with_name(f"{target.name}.again")
        shutil.move(path, target)


def _files(folder: Path, without: Sequence[str] = ()) -> Iterator[tuple[Path, int, int]]:
    """(path, bytes, time of the last change in ns) of each plain file, ours and hidden ones left out."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name.startswith(".") or entry.is_symlink() or entry.name in without:
            continue
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            yield from _files(path)
        elif entry.is_file(follow_symlinks=False):
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            yield path, status.st_size, status.st_mtime_ns
