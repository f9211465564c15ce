"""Studies as a list: looked for, filtered, a page at a time, each with the state that people ask for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Select, case, exists, func, or_, select

from dicom_bridge.jobs.ledger import queue_order
from dicom_bridge.store.database import Database
from dicom_bridge.store.states import UNFINISHED_JOB_STATES, DeliveryState, JobState
from dicom_bridge.store.study_facts import search_words
from dicom_bridge.store.tables import DeliveryRow, InstanceRow, JobRow, ResendRow, StudyRow


class StudyState(StrEnum):
    """Where a study stands."""

    RECEIVING = "receiving"  # it is not complete yet
    WORKING = "working"  # complete; a job or a delivery goes on
    FAILED = "failed"  # a job or a delivery of it failed for good
    ANSWERED = "answered"  # something was found or not found, and every destination has it
    UNANSWERED = "unanswered"  # each of its jobs was refused, or cancelled by an operator
    RECEIVED = "received"  # complete, and no route asks anything of it


@dataclass(frozen=True)
class StudyFilter:
    """Which studies; None or "" asks for nothing.

    Attributes:
        text: words that are all in accession number, description, date, UID or, where it is kept, the patient's name.
        since, before: when the last instance came, in seconds since the epoch.
        state: of the study.
        job_state: that one of its jobs is in.
        destination: of one of its deliveries;
        delivery_states: in one of these states.
        association: that brought an instance of it, new or again.
    """

    text: str = ""
    since: float | None = None
    before: float | None = None
    state: StudyState | None = None
    job_state: JobState | None = None
    destination: str | None = None
    delivery_states: tuple[DeliveryState, ...] = ()
    association: str | None = None


@dataclass(frozen=True)
class ListedStudy:
    """A study in the list.

    Attributes:
        study: its row.
        state: where it stands.
        instances: how many came.
        jobs: (route, state of the job, how many).
        again: how many instances came again.
    """

    study: StudyRow
    state: StudyState
    instances: int
    jobs: tuple[tuple[str, str, int], ...]
    again: int = 0


@dataclass(frozen=True)
class QueuedJob:
    """An unfinished job, without the instances that it is about."""

    job_id: str
    series_uid: str
    route: str
    state: str
    priority: str
    created_at: float


@dataclass(frozen=True)
class QueuedStudy:
    """The unfinished jobs of a study, in the order in which they are taken."""

    study_uid: str
    description: str | None
    accession_number: str | None
    jobs: tuple[QueuedJob, ...]


class StudyListing:
    """Reads only. Every method is safe to call from any thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def page(self, which: StudyFilter, limit: int = 50, offset: int = 0) -> list[ListedStudy]:
        """Studies, that of the latest instance first."""
        query = select(StudyRow, _STATE.label("state")).where(*_conditions(which))
        query = query.order_by(StudyRow.last_received_at.desc(), StudyRow.study_uid.desc()).limit(limit).offset(offset)
        with self._database.reading() as session:
            rows = session.execute(query).all()
            studies = [row.study_uid for row, _ in rows]
            counts = _by_study(session.execute(_counted(InstanceRow.study_uid, studies)))
            resent = select(ResendRow.study_uid, func.sum(ResendRow.instances)).where(ResendRow.study_uid.in_(studies))
            again = {uid: int(count) for uid, count in session.execute(resent.group_by(ResendRow.study_uid))}
            jobs = _by_study(session.execute(_counted(JobRow.study_uid, studies, JobRow.route, JobRow.state)))
        return [
            ListedStudy(
                row,
                StudyState(state),
                sum(count for (count,) in counts.get(row.study_uid, [])),
                tuple(sorted(jobs.get(row.study_uid, []))),
                again.get(row.study_uid, 0),
            )
            for row, state in rows
        ]

    def state(self, study_uid: str) -> StudyState | None:
        """Where one study stands; None: there is no such study."""
        with self._database.reading() as session:
            found = session.scalar(select(_STATE).select_from(StudyRow).where(StudyRow.study_uid == study_uid))
        return None if found is None else StudyState(found)

    def count(self, which: StudyFilter) -> int:
        """How many studies there are."""
        query = select(func.count()).select_from(StudyRow).where(*_conditions(which))
        with self._database.reading() as session:
            return session.scalar(query) or 0

    def counts(self) -> dict[StudyState, int]:
        """How many studies are in each state."""
        told = select(_STATE.label("state")).select_from(StudyRow).subquery()
        query = select(told.c.state, func.count()).group_by(told.c.state)
        with self._database.reading() as session:
            found = {StudyState(state): count for state, count in session.execute(query)}
        return {state: found.get(state, 0) for state in StudyState}

    def queue(self, limit: int = 20, most_jobs: int = 500) -> list[QueuedStudy]:
        """Unfinished jobs by study, the one first whose job is taken first.

        Args:
            limit: of the studies.
            most_jobs: that are looked at, in the order of the taking.
        """
        columns = (JobRow.job_id, JobRow.series_uid, JobRow.route, JobRow.state, JobRow.priority, JobRow.created_at)
        query = (
            select(StudyRow.study_uid, StudyRow.description, StudyRow.accession_number, *columns)
            .join(StudyRow, StudyRow.study_uid == JobRow.study_uid)
            .where(JobRow.state.in_(UNFINISHED_JOB_STATES))
            .order_by(*queue_order())
            .limit(most_jobs)
        )
        told: dict[str, tuple[str | None, str | None]] = {}
        jobs: dict[str, list[QueuedJob]] = {}
        with self._database.reading() as session:
            for row in session.execute(query):
                study_uid, description, accession_number = row[:3]
                if study_uid in told or len(told) < limit:
                    told[study_uid] = (description, accession_number)
                    jobs.setdefault(study_uid, []).append(QueuedJob(*row[3:]))
        return [QueuedStudy(study_uid, *told[study_uid], tuple(jobs[study_uid])) for study_uid in told]


def _has_job(*conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    return exists().where(JobRow.study_uid == StudyRow.study_uid, *conditions)


def _has_delivery(*conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    return exists().where(JobRow.study_uid == StudyRow.study_uid, DeliveryRow.job_id == JobRow.job_id, *conditions)


_STATE: ColumnElement[str] = case(
    (StudyRow.is_open, StudyState.RECEIVING.value),
    (_has_job(JobRow.state.in_(UNFINISHED_JOB_STATES)), StudyState.WORKING.value),
    (_has_job(JobRow.state == JobState.FAILED), StudyState.FAILED.value),
    (
        _has_delivery(DeliveryRow.state.in_((DeliveryState.FAILED, DeliveryState.REFUSED))),
        StudyState.FAILED.value,
    ),
    (_has_job(JobRow.state == JobState.DONE), StudyState.ANSWERED.value),
    (_has_job(), StudyState.UNANSWERED.value),
    else_=StudyState.RECEIVED.value,
)


def _conditions(which: StudyFilter) -> list[ColumnElement[bool]]:
    conditions = [StudyRow.searched.contains(word, autoescape=True) for word in search_words(which.text)]
    if which.since is not None:
        conditions.append(StudyRow.last_received_at >= which.since)
    if which.before is not None:
        conditions.append(StudyRow.last_received_at < which.before)
    if which.state is not None:
        conditions.append(_STATE == which.state.value)
    if which.job_state is not None:
        conditions.append(_has_job(JobRow.state == which.job_state))
    if which.destination or which.delivery_states:
        asked = [DeliveryRow.destination == which.destination] if which.destination else []
        asked += [DeliveryRow.state.in_(which.delivery_states)] if which.delivery_states else []
        conditions.append(_has_delivery(*asked))
    if which.association is not None:
        brought = select(InstanceRow.study_uid).where(InstanceRow.association == which.association)
        resent = select(ResendRow.study_uid).where(ResendRow.association == which.association)
        conditions.append(or_(StudyRow.study_uid.in_(brought), StudyRow.study_uid.in_(resent)))
    return conditions


def _counted(study: Any, studies: Sequence[str], *told: Any) -> Select[Any]:
    return select(study, *told, func.count()).where(study.in_(studies)).group_by(study, *told)


def _by_study(rows: Any) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for study_uid, *told in rows:
        found.setdefault(study_uid, []).append(tuple(told))
    return found
