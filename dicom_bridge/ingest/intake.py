"""The one way into the store, whichever way an instance came: written durably, checked, indexed, then acknowledged.

The data set goes to disk as it was encoded; only the header elements that name it are read. When `take` returns, the
file, its folder and its row in the index are durable, so an acknowledged instance survives a crash. What arrives at the
same time over several associations is indexed in one transaction.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sqlalchemy.exc import DBAPIError, OperationalError

from dicom_bridge.ingest.header import read_header
from dicom_bridge.settings import ReceiveSettings
from dicom_bridge.store.files.instance_files import InstanceFiles, require_uid
from dicom_bridge.store.group_commit import GroupCommit
from dicom_bridge.store.index import StudyIndex
from dicom_bridge.store.recording import Arriving, ReceivedInstance
from dicom_bridge.store.resends import Resends
from rcmed.errors import InputError

SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
SOP_CLASS_MISMATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000
_STUDIES_COUNTED = 1024

_LOG = logging.getLogger(__name__)


class RefusedInstanceError(InputError):
    """An instance that can't be stored.

    Attributes:
        status: what the sender is told (PS3.4 B.2.3).
        sop_class_uid, instance_uid: as far as they could be read.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.sop_class_uid: str | None = None
        self.instance_uid: str | None = None

    @property
    def is_passing(self) -> bool:
        """Whether the same instance may be taken later: it is we who lack room."""
        return self.status == OUT_OF_RESOURCES


class Taken(StrEnum):
    """What became of an instance that was acknowledged."""

    STORED = "stored"
    DUPLICATE = "duplicate"  # the very same bytes were there
    CONFLICT = "conflict"  # an instance of this UID was there with other content; the first one is kept


@dataclass(frozen=True)
class Origin:
    """Where an instance came from.

    Attributes:
        association: its id in the index; a request by HTTP or a look into a folder has one, too.
        calling_ae, called_ae: as routes see them.
    """

    association: str
    calling_ae: str
    called_ae: str


@dataclass(frozen=True)
class Arrived:
    """An instance that was acknowledged."""

    study_uid: str
    series_uid: str
    instance_uid: str
    sop_class_uid: str
    outcome: Taken


class InstanceIntake:
    """Takes instances. Safe to call from any thread."""

    def __init__(
        self,
        limits: ReceiveSettings,
        files: InstanceFiles,
        index: StudyIndex,
        on_change: Callable[[], None] = lambda: None,
        keeps_patient_names: bool = False,
        resends: Resends | None = None,
    ) -> None:
        """Prepare.

        Args:
            limits: of size, number and free disk.
            files: where instances go; its root is the folder that paths in the index are relative to.
            index: where they are recorded.
            on_change: called after an instance was recorded.
            keeps_patient_names: whether the index takes them, for the status page; else they stay in the files.
            resends: counts instances that come again; None: nobody does.
        """
        self._keeps_patient_names = keeps_patient_names
        self._resends = resends
        self.limits = limits
        self.files = files
        self.index = index
        self._on_change = on_change
        # A failing database is everyone's; anything else may be one instance's own.
        self._recording: GroupCommit[Arriving, bool] = GroupCommit(
            lambda arriving: self.index.record_instances(arriving), (OperationalError,)
        )
        self._counts: dict[str, int] = {}
        self._lock = threading.Lock()

    @property
    def maximum_bytes(self) -> int:
        """Of one instance."""
        return self.limits.maximum_instance_megabytes * 1_000_000

    def take(
        self,
        parts: Sequence[bytes | memoryview],
        origin: Origin,
        *,
        expected_class: str | None = None,
        expected_uid: str | None = None,
        expected_study: str | None = None,
        transfer_syntax: str | None = None,
    ) -> Arrived:
        """Store a DICOM file.

        Args:
            parts: the file (PS3.10), in pieces.
            origin: where it came from.
            transfer_syntax: of the data set, where the first piece ends with its file meta information.
            expected_class, expected_uid, expected_study: SOP Class, SOP Instance and Study Instance UID that the
                request named; None: it named none.
        Raises:
            RefusedInstanceError: it is not stored; status and text say why.
        """
        try:
            size = sum(memoryview(part).nbytes for part in parts)
            self.require_size(size)
            self._require_free_disk(size)
            instance = self._describe(parts, transfer_syntax, origin)
            try:
                outcome = self._place(parts, instance, origin, (expected_class, expected_uid, expected_study))
            except RefusedInstanceError as error:
                error.sop_class_uid, error.instance_uid = instance.sop_class_uid, instance.instance_uid
                raise
            return _arrived(instance, outcome)
        except RefusedInstanceError:
            raise
        except InputError as error:
            raise RefusedInstanceError(CANNOT_UNDERSTAND, str(error)) from None
        except (OSError, DBAPIError) as error:
            # Disk full, quota, a failing disk, a locked database: the instance may be sound, so the sender should
            # try again later.
            reason = error.strerror if isinstance(error, OSError) else str(error.orig)
            raise RefusedInstanceError(OUT_OF_RESOURCES, f"can't be written: {reason}") from None

    def require_size(self, size: int) -> None:
        """Refuse what is too large.

        Raises:
            RefusedInstanceError: more bytes than `maximum_instance_megabytes`.
        """
        if size > self.maximum_bytes:
            text = f"larger than receive.maximum_instance_megabytes ({self.limits.maximum_instance_megabytes})"
            raise RefusedInstanceError(CANNOT_UNDERSTAND, text)

    def _require_free_disk(self, size: int) -> None:
        free, least = self.files.free_megabytes(), self.limits.minimum_free_megabytes
        if free - size / 1e6 < least:
            text = f"{free:.0f} MB free, receive.minimum_free_megabytes asks for {least}"
            raise RefusedInstanceError(OUT_OF_RESOURCES, text)

    def end(self, origin: Origin, is_aborted: bool = False) -> None:
        """Nothing more comes from there now: its studies may be complete.

        Args:
            origin: from where.
            is_aborted: whether it broke off, so that instances of its studies may be missing.
        """
        self.tell_resent(origin)
        self.index.release_association(origin.association, is_aborted)
        self._on_change()

    def tell_resent(self, origin: Origin) -> None:
        """Record how many instances came from there again, with a line for each study."""
        for study_uid, (count, differing) in (self._resends.end(origin.association) if self._resends else {}).items():
            how = f", {differing} of them with other content" if differing else ", the same"
            instances = "1 instance" if count == 1 else f"{count} instances"
            line = f"{instances} came again from {origin.calling_ae}{how}: the first are kept, nothing is asked anew"
            try:
                self.index.add_line(line, level="info", study_uid=study_uid)
            except DBAPIError as error:
                _LOG.warning("a line can't be kept now: %s", str(error.orig).partition("\n")[0])

    def forget_count(self, study_uid: str) -> None:
        """Instances of a study were taken away: count them anew when the next one comes."""
        with self._lock:
            self._counts.pop(study_uid, None)

    def _place(
        self,
        parts: Sequence[bytes | memoryview],
        instance: ReceivedInstance,
        origin: Origin,
        expected: tuple[str | None, str | None, str | None],
    ) -> Taken:
        _require_as_asked_for(instance, *expected)
        path = self.files.root / instance.path
        # Most instances are new, and a look at the disk is cheaper than one at the index.
        if path.exists():
            known = self.index.instance_path(instance.study_uid, instance.series_uid, instance.instance_uid)
            if known is not None:
                taken = self._compare(parts, self.files.root / known, instance)
                if self._resends is not None:
                    self._resends.count(origin.association, instance.study_uid, taken == Taken.CONFLICT)
                return taken
        self._require_room_in_study(instance.study_uid)
        self.files.put(parts, path)
        if self._recording.submit((instance, origin.association)):
            self._count(instance.study_uid)
        self._on_change()
        return Taken.STORED

    def _describe(
        self, parts: Sequence[bytes | memoryview], transfer_syntax: str | None, origin: Origin
    ) -> ReceivedInstance:
        try:
            header = read_header(parts, origin.calling_ae, origin.called_ae, transfer_syntax)
        except InputError:
            raise
        except Exception as error:  # pydicom raises whatever its parser met; the sender is told which
            raise RefusedInstanceError(
                CANNOT_UNDERSTAND, f"the data set can't be parsed ({type(error).__name__}): mend or resend it"
            ) from None
        study = require_uid(header.study_uid, "Study Instance UID (0020,000D)")
        series = require_uid(header.series_uid, "Series Instance UID (0020,000E)")
        uid = require_uid(header.instance_uid, "SOP Instance UID (0008,0018)")
        sop_class = require_uid(header.sop_class_uid, "SOP Class UID (0008,0016)")
        return ReceivedInstance(
            study_uid=study,
            series_uid=series,
            instance_uid=uid,
            sop_class_uid=sop_class,
            transfer_syntax_uid=header.transfer_syntax_uid,
            path=str(self.files.path_of(study, series, uid).relative_to(self.files.root)),
            facts=header.facts,
            expected=header.expected,
            study=header.study if self._keeps_patient_names else header.study.anonymous,
        )

    def _compare(self, parts: Sequence[bytes | memoryview], known: Path, instance: ReceivedInstance) -> Taken:
        with known.open("rb") as file:
            if all(file.read(len(part)) == part for part in parts) and not file.read(1):
                return Taken.DUPLICATE
        self.index.add_line(
            f"instance {instance.instance_uid} came again with other content: the first one is kept",
            level="warning",
            study_uid=instance.study_uid,
            series_uid=instance.series_uid,
        )
        return Taken.CONFLICT

    def _require_room_in_study(self, study_uid: str) -> None:
        with self._lock:
            count = self._counts.get(study_uid)
        if count is None:
            count = self.index.instance_count(study_uid)
            with self._lock:
                if len(self._counts) >= _STUDIES_COUNTED:
                    self._counts.clear()
                self._counts[study_uid] = count
        if count >= self.limits.maximum_instances_per_study:
            text = f"the study has receive.maximum_instances_per_study ({self.limits.maximum_instances_per_study})"
            raise RefusedInstanceError(CANNOT_UNDERSTAND, text)

    def _count(self, study_uid: str) -> None:
        with self._lock:
            if study_uid in self._counts:
                self._counts[study_uid] += 1


def _require_as_asked_for(
    instance: ReceivedInstance, sop_class: str | None, instance_uid: str | None, study_uid: str | None
) -> None:
    if sop_class is not None and instance.sop_class_uid != sop_class:
        raise RefusedInstanceError(SOP_CLASS_MISMATCH, "SOP Class UID (0008,0016) differs from the request's")
    if instance_uid is not None and instance.instance_uid != instance_uid:
        raise RefusedInstanceError(CANNOT_UNDERSTAND, "SOP Instance UID (0008,0018) differs from the request's")
    if study_uid is not None and instance.study_uid != study_uid:
        raise RefusedInstanceError(CANNOT_UNDERSTAND, "Study Instance UID (0020,000D) differs from the request's")


def _arrived(instance: ReceivedInstance, outcome: Taken) -> Arrived:
    return Arrived(instance.study_uid, instance.series_uid, instance.instance_uid, instance.sop_class_uid, outcome)
