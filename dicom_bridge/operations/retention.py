"""Retention: what is finished, delivered and old enough is deleted, study by study, and the audit trail says so.

A study may be cleaned when it is complete, each of its jobs was done (or found nothing to look at) and every result
was confirmed by its destination. What was begun when the process ended is brought to its end at the next start.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from dicom_bridge.events.sink import Observer
from dicom_bridge.settings import RetentionSettings
from dicom_bridge.store.files.instance_files import InstanceFiles
from dicom_bridge.store.files.removed_files import RemovedFiles
from dicom_bridge.store.index import StudyIndex
from dicom_bridge.store.removals import Removal, RemovalKind, Removals

_LOG = logging.getLogger(__name__)
_DAY = 86_400.0


class Retention:
    """Looks, in a thread of its own, whether something is to be deleted."""

    def __init__(
        self,
        settings: RetentionSettings,
        files: InstanceFiles,
        index: StudyIndex,
        removals: Removals,
        observer: Observer,
        job_folder: Callable[[str], Path],
        forget_job: Callable[[str], bool],
        clock: Callable[[], float] = time.time,
        may_look: Callable[[], bool] = lambda: True,
    ) -> None:
        """Prepare.

        Args:
            settings: what is kept for how long.
            files: of instances.
            index: where a line says that instances were deleted.
            removals: which studies may be cleaned, and the journal.
            observer: is told of each removal.
            job_folder: of a job, by its id, relative to the state folder.
            forget_job: makes the job engine forget a job; False: not yet.
            clock: seconds since the epoch.
            may_look: False while another process of the state folder does it.
        """
        self._may_look = may_look
        self._settings = settings
        self._files = files
        self._index = index
        self._removals = removals
        self._observer = observer
        self._job_folder = job_folder
        self._forget_job = forget_job
        self._on_removed: Callable[[str], None] = lambda study_uid: None
        self._clock = clock
        self._aside = RemovedFiles(files.root)
        self._stopping = threading.Event()
        self._faults: tuple[str, ...] = ()
        self._thread = threading.Thread(target=self._run, name="retention", daemon=True)

    def start(self, on_removed: Callable[[str], None]) -> None:
        """Start looking.

        Args:
            on_removed: takes the Study Instance UID of each study that was cleaned.
        """
        self._on_removed = on_removed
        self._thread.start()

    def stop(self) -> None:
        """Stop; the study that is being cleaned has a moment to be finished."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=30)

    def health(self) -> str:
        """ "ok", or what hinders it."""
        if not self._thread.is_alive():
            return "not running"
        return "; ".join(self._faults) or "ok"

    def kept_count(self) -> int:
        """How many finished studies stay because a job failed or a result was not delivered."""
        return self._removals.kept_count(self._clock())

    def recover(self) -> None:
        """Bring what an earlier run began to its end: what was decided is deleted, everything else is back.

        Raises:
            OSError: the disk is full or failing.
        """
        if not self._may_look():
            return
        for removal in self._removals.unfinished():
            if removal.is_decided:
                self._finish(removal)
            else:
                self._undo(removal)

    def look(self) -> None:
        """Delete everything whose time has come.

        Raises:
            OSError: the disk is full or failing; nothing is lost, the next look goes on.
            DBAPIError: so is the database.
        """
        if not self._may_look():
            return
        settings, now = self._settings, self._clock()
        faults: list[str] = []
        self.recover()
        if settings.instances_days is not None:
            before = now - settings.instances_days * _DAY
            self._remove_all(RemovalKind.INSTANCES, before, f"finished {settings.instances_days:g} days ago")
        if settings.free_megabytes is not None:
            faults += self._make_room(settings.free_megabytes, now)
        if settings.results_days is not None:
            before = now - settings.results_days * _DAY
            self._remove_all(RemovalKind.RESULTS, before, f"finished {settings.results_days:g} days ago")
            rows = self._removals.forget_rest(before)
            if rows:
                _LOG.info("%d rows of lines, associations and commitments deleted that belong to no study", rows)
        self._faults = tuple(faults)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.look()
            except DBAPIError as error:
                self._fail(str(error.orig))
            except Exception as error:
                # It must be seen and must not end: a disk that nobody cleans fills up.
                self._fail(error.strerror or "I/O error" if isinstance(error, OSError) else type(error).__name__)
                _LOG.exception("retention failed; looking again soon")
            self._stopping.wait(self._settings.look_seconds)

    def _fail(self, text: str) -> None:
        _LOG.error("nothing can be deleted: %s", text)
        self._faults = (text,)

    def _make_room(self, mark: int, now: float) -> Sequence[str]:
        """Delete instances until so many megabytes are free; returns what can't be mended."""
        for study_uid in self._removals.removable(RemovalKind.INSTANCES, now):
            if self._files.free_megabytes() >= mark or self._stopping.is_set():
                return ()
            self._remove(study_uid, RemovalKind.INSTANCES, now, f"less than {mark} MB of disk were free")
        free = self._files.free_megabytes()
        return () if free >= mark else (f"{free:.0f} MB free, {mark} wanted, and no finished study is left to delete",)

    def _remove_all(self, kind: RemovalKind, finished_before: float, reason: str) -> None:
        for study_uid in self._removals.removable(kind, finished_before):
            if self._stopping.is_set():
                return
            self._remove(study_uid, kind, finished_before, reason)

    def _remove(self, study_uid: str, kind: RemovalKind, finished_before: float, reason: str) -> None:
        removal = self._removals.begin(study_uid, kind, finished_before, reason)
        if removal is None:
            return
        # The engine forgets first: else a study that comes again at once would find its job done there.
        if not all(self._forget_job(job_id) for job_id in removal.jobs):
            self._undo(removal)
            return
        self._aside.move_aside(removal.id, self._folders(removal))
        if self._removals.decide(removal, finished_before):
            self._finish(removal)
        else:
            self._undo(removal)

    def _finish(self, removal: Removal) -> None:
        self._aside.delete(removal.id, removal.files, [self._job_folder(job_id) for job_id in removal.jobs])
        self._on_removed(removal.study_uid)
        if not self._observer.study_deleted(removal):
            return  # told again at the next look
        self._removals.finish(removal)
        if removal.kind == RemovalKind.INSTANCES:
            count = sum(removal.series.values())
            text = f"{count} instances of generation {removal.generation} were deleted: {removal.reason}"
            self._index.add_line(text, level="info", study_uid=removal.study_uid)

    def _undo(self, removal: Removal) -> None:
        self._aside.bring_back(removal.id)
        self._removals.give_up(removal)

    def _folders(self, removal: Removal) -> list[Path]:
        if removal.kind == RemovalKind.RESULTS:
            return [self._job_folder(job_id) for job_id in removal.jobs]
        return [self._files.study_folder(removal.study_uid)]
