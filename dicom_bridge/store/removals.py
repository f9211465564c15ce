"""Which studies may be cleaned, and the journal of cleaning them.

A removal goes through three states, each durable before the next is worked on: begun (files are moved aside; they come
back unless the next state is reached), decided (the rows are gone, in one transaction that looked again whether the
study may be cleaned), finished (the files are gone and the audit trail says so).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import ColumnElement, and_, delete, exists, func, or_, select
from sqlalchemy.orm import Session

from dicom_bridge.store.database import Database
from dicom_bridge.store.states import DeliveryState, JobState
from dicom_bridge.store.tables import (
    AssociationRow,
    CommitmentRow,
    CompletionMarkRow,
    DeliveryRow,
    GenerationRow,
    InstanceRow,
    JobRow,
    LineRow,
    RemovalRow,
    SeriesRow,
    StudyRow,
)

# A failed job is none of them: someone may want to run it again, and needs its instances. What an operator cancelled,
# he wanted to end so.
_REMOVABLE_JOB_STATES = (JobState.DONE, JobState.REFUSED, JobState.CANCELLED)
_REMOVABLE_DELIVERY_STATES = (DeliveryState.DELIVERED, DeliveryState.CANCELLED)


class RemovalKind(StrEnum):
    """What of a study is taken away. RESULTS: everything that is left, once its instances are gone."""

    INSTANCES = "instances"
    RESULTS = "results"


@dataclass(frozen=True)
class Removal:
    """One removal.

    Attributes:
        id: names its folder.
        study_uid, kind, reason: of what, what, and why.
        files: of instances, relative to the state folder.
        jobs: whose folders go.
        series: Series Instance UID -> number of instances that go.
        generation: of the study, at that time.
        is_decided: whether the rows are gone, so that the files must follow.
    """

    id: str
    study_uid: str
    kind: RemovalKind
    reason: str
    files: list[str]
    jobs: list[str]
    series: dict[str, int]
    generation: int
    is_decided: bool


class Removals:
    """The journal. Every method is safe to call from any thread; writes are durable on return."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def removable(self, kind: RemovalKind, finished_before: float, limit: int = 1000) -> list[str]:
        """Studies that may be cleaned, the one that ended first first.

        Args:
            kind: what of them.
            finished_before: seconds since the epoch; nothing came and no job ended since.
            limit: of their number.
        """
        query = (
            select(StudyRow.study_uid)
            .where(_may_go(kind, finished_before))
            .order_by(StudyRow.last_received_at, StudyRow.study_uid)
            .limit(limit)
        )
        with self._database.reading() as session:
            return list(session.scalars(query))

    def kept_count(self, finished_before: float) -> int:
        """How many studies whose time has come are kept because a job failed or a result was not delivered."""
        query = select(func.count()).where(
            StudyRow.is_open.is_(False), StudyRow.last_received_at < finished_before, _is_unresolved()
        )
        with self._database.reading() as session:
            return session.scalar(query) or 0

    def begin(self, study_uid: str, kind: RemovalKind, finished_before: float, reason: str) -> Removal | None:
        """Write down what is going to be removed; None where the study may not be cleaned (any more)."""
        with self._database.writing() as session:
            study = _study_that_may_go(session, study_uid, kind, finished_before)
            if study is None:
                return None
            instances = session.execute(
                select(InstanceRow.instance_uid, InstanceRow.series_uid, InstanceRow.path).where(
                    InstanceRow.study_uid == study_uid
                )
            ).all()
            if _is_awaited(session, {uid for uid, _, _ in instances}):
                return None
            series: dict[str, int] = {}
            for _, series_uid, _ in instances:
                series[series_uid] = series.get(series_uid, 0) + 1
            jobs = session.scalars(select(JobRow.job_id).where(JobRow.study_uid == study_uid))
            row = RemovalRow(
                id=uuid.uuid4().hex,
                study_uid=study_uid,
                kind=kind,
                reason=reason,
                generation=study.generation,
                files=[path for _, _, path in instances],
                jobs=list(jobs) if kind == RemovalKind.RESULTS else [],
                series=series,
                began_at=self._clock(),
                decided_at=None,
                finished_at=None,
            )
            session.add(row)
            return _removal_of(row)

    def decide(self, removal: Removal, finished_before: float) -> bool:
        """Remove the rows, if the study may still be cleaned; False: it may not, and nothing was removed."""
        with self._database.writing() as session:
            study = _study_that_may_go(session, removal.study_uid, removal.kind, finished_before)
            row = session.get(RemovalRow, removal.id)
            of_study = InstanceRow.study_uid == removal.study_uid
            count = session.scalar(select(func.count()).select_from(InstanceRow).where(of_study))
            if study is None or row is None or count != len(removal.files):
                return False
            row.decided_at = self._clock()
            session.execute(delete(InstanceRow).where(of_study))
            session.execute(delete(SeriesRow).where(SeriesRow.study_uid == removal.study_uid))
            session.execute(delete(CompletionMarkRow).where(CompletionMarkRow.study_uid == removal.study_uid))
            if removal.kind == RemovalKind.RESULTS:
                session.execute(delete(DeliveryRow).where(DeliveryRow.job_id.in_(_jobs_of(removal.study_uid))))
                session.execute(delete(JobRow).where(JobRow.study_uid == removal.study_uid))
                for table in (LineRow, GenerationRow):
                    session.execute(delete(table).where(table.study_uid == removal.study_uid))
                earlier = and_(RemovalRow.study_uid == removal.study_uid, RemovalRow.id != removal.id)
                session.execute(delete(RemovalRow).where(earlier))
                session.delete(study)
            return True

    def give_up(self, removal: Removal) -> None:
        """A removal that was begun and not decided is forgotten; its files are back."""
        with self._database.writing() as session:
            session.execute(delete(RemovalRow).where(RemovalRow.id == removal.id, RemovalRow.decided_at.is_(None)))

    def finish(self, removal: Removal) -> None:
        """The files are gone, and the audit trail says so."""
        with self._database.writing() as session:
            row = session.get(RemovalRow, removal.id)
            if row is None:
                return
            if removal.kind == RemovalKind.RESULTS:
                session.delete(row)
            else:
                row.files, row.series, row.finished_at = [], {}, self._clock()

    def unfinished(self) -> list[Removal]:
        """Removals that a crash or a failing disk interrupted, oldest first."""
        query = select(RemovalRow).where(RemovalRow.finished_at.is_(None)).order_by(RemovalRow.began_at)
        with self._database.reading() as session:
            return [_removal_of(row) for row in session.scalars(query)]

    def forget_rest(self, before: float) -> int:
        """Delete rows that belong to no study any more and are older: lines, associations, commitments that were
        reported; returns their number.
        """
        known = exists().where(StudyRow.study_uid == LineRow.study_uid)
        brought = exists().where(InstanceRow.association == AssociationRow.id)
        with self._database.writing() as session:
            results = [
                session.execute(delete(table).where(*conditions))
                for table, conditions in (
                    (LineRow, (LineRow.time < before, ~known)),
                    (AssociationRow, (AssociationRow.released_at < before, ~brought)),
                    (CommitmentRow, (CommitmentRow.reported_at < before,)),
                )
            ]
        return sum(int(getattr(result, "rowcount", 0)) for result in results)


def _may_go(kind: RemovalKind, finished_before: float) -> ColumnElement[bool]:
    has_instances = exists().where(InstanceRow.study_uid == StudyRow.study_uid)
    busy = exists().where(
        JobRow.study_uid == StudyRow.study_uid,
        or_(
            JobRow.state.not_in(_REMOVABLE_JOB_STATES),
            JobRow.finished_at.is_(None),
            JobRow.finished_at >= finished_before,
        ),
    )
    return and_(
        StudyRow.is_open.is_(False),
        StudyRow.last_received_at < finished_before,
        has_instances if kind == RemovalKind.INSTANCES else ~has_instances,
        ~busy,
        ~_is_undelivered(),
    )


def _is_undelivered() -> ColumnElement[bool]:
    return exists().where(
        DeliveryRow.job_id == JobRow.job_id,
        JobRow.study_uid == StudyRow.study_uid,
        DeliveryRow.state.not_in(_REMOVABLE_DELIVERY_STATES),
    )


def _is_unresolved() -> ColumnElement[bool]:
    failed = exists().where(JobRow.study_uid == StudyRow.study_uid, JobRow.state.not_in(_REMOVABLE_JOB_STATES))
    return or_(failed, _is_undelivered())


def _study_that_may_go(session: Session, study_uid: str, kind: RemovalKind, finished_before: float) -> StudyRow | None:
    # Locked where the database locks rows: whoever records an instance writes to the study and waits for us.
    query = select(StudyRow).where(StudyRow.study_uid == study_uid).with_for_update()
    if session.scalar(query) is None:
        return None
    return session.scalar(select(StudyRow).where(StudyRow.study_uid == study_uid, _may_go(kind, finished_before)))


def _is_awaited(session: Session, instances: set[str]) -> bool:
    """Whether someone asked for storage commitment of one of the instances and has not got his report."""
    requests = session.scalars(select(CommitmentRow.objects).where(CommitmentRow.reported_at.is_(None)))
    return any(uid in instances for objects in requests for _, uid in objects)


def _jobs_of(study_uid: str) -> ColumnElement[str]:
    return select(JobRow.job_id).where(JobRow.study_uid == study_uid).scalar_subquery()


def _removal_of(row: RemovalRow) -> Removal:
    return Removal(
        id=row.id,
        study_uid=row.study_uid,
        kind=RemovalKind(row.kind),
        reason=row.reason,
        files=list(row.files),
        jobs=list(row.jobs),
        series=dict(row.series),
        generation=row.generation,
        is_decided=row.decided_at is not None,
    )
