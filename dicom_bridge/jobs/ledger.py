"""The state of every job and of every delivery, for the status page and for the restart."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import Any

from sqlalchemy import case, exists, func, select, update
from sqlalchemy.orm import Session

from dicom_bridge.errors import NotThereError
from dicom_bridge.store.database import Database, insert_if_absent
from dicom_bridge.store.states import (
    FINAL_DELIVERY_STATES,
    FINAL_JOB_STATES,
    UNFINISHED_JOB_STATES,
    DeliveryState,
    JobState,
)
from dicom_bridge.store.tables import DeliveryRow, JobRow
from dicom_bridge.studies.priority import Priority


class Attempt(StrEnum):
    """Whether a job may be worked on."""

    BEGUN = "begun"
    ENDED = "ended"  # it has its end already
    TOO_MANY = "too many"  # it was begun as often as it may be, and never came to an end


class JobLedger:
    """Job and delivery records. Every method is safe to call from any thread."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def job(self, job_id: str) -> JobRow:
        """One job.

        Raises:
            NotThereError: no such job.
        """
        with self._database.reading() as session:
            row = session.get(JobRow, job_id)
            if row is None:
                raise NotThereError(f"no job {job_id}")
            return row

    def jobs(self, study_uid: str | None = None, limit: int = 500) -> list[JobRow]:
        """Jobs, of one study or of all, latest first."""
        query = select(JobRow).order_by(JobRow.created_at.desc(), JobRow.job_id).limit(limit)
        if study_uid is not None:
            query = query.where(JobRow.study_uid == study_uid)
        with self._database.reading() as session:
            return list(session.scalars(query))

    def unfinished(self) -> list[JobRow]:
        """Jobs that have to go on, oldest first."""
        query = select(JobRow).where(JobRow.state.in_(UNFINISHED_JOB_STATES)).order_by(JobRow.created_at)
        with self._database.reading() as session:
            return list(session.scalars(query))

    def earlier_generations(self, job: JobRow) -> list[JobRow]:
        """Jobs of the same series and route in earlier generations of the study, latest first."""
        query = (
            select(JobRow)
            .where(JobRow.study_uid == job.study_uid, JobRow.series_uid == job.series_uid, JobRow.route == job.route)
            .where(JobRow.generation < job.generation)
            .order_by(JobRow.generation.desc(), JobRow.created_at.desc())
        )
        with self._database.reading() as session:
            return list(session.scalars(query))

    def queue(self, limit: int) -> list[JobRow]:
        """Unfinished jobs in the order in which they are taken: running, then the most urgent, then the oldest."""
        query = select(JobRow).where(JobRow.state.in_(UNFINISHED_JOB_STATES))
        with self._database.reading() as session:
            return list(session.scalars(query.order_by(*queue_order()).limit(limit)))

    def has_unfinished(self) -> bool:
        """Whether any job has to go on."""
        with self._database.reading() as session:
            return bool(session.scalar(select(exists().where(JobRow.state.in_(UNFINISHED_JOB_STATES)))))

    def count(self, state: JobState) -> int:
        """How many jobs are in a state."""
        with self._database.reading() as session:
            return session.scalar(select(func.count()).select_from(JobRow).where(JobRow.state == state)) or 0

    def set_state(self, job_id: str, state: JobState, error: str | None = None) -> None:
        """Write a job's state; it only goes forward, and a final one is left by an operator's re-drive alone.

        A worker that was paused, and whose job another one finished meanwhile, changes nothing.
        """
        with self._database.writing() as session:
            row = locked_job(session, job_id)
            if row is None or row.state in FINAL_JOB_STATES:
                return
            if (row.state, state) == (JobState.DELIVERING, JobState.RUNNING):
                return
            row.state = state
            row.error = error
            if state in FINAL_JOB_STATES:
                row.finished_at = self._clock()

    def begin_attempt(self, job_id: str, most: int) -> Attempt:
        """A process begins a job, or goes on with it; it counts until `end_attempts`, even if the process dies.

        Args:
            most: attempts that a job has.
        """
        with self._database.writing() as session:
            row = locked_job(session, job_id)
            if row is None or row.state in FINAL_JOB_STATES:
                return Attempt.ENDED
            if row.attempts >= most and row.state != JobState.DELIVERING:
                return Attempt.TOO_MANY
            row.attempts += 1
        return Attempt.BEGUN

    def end_attempts(self, job_ids: Iterable[str]) -> None:
        """A process lets go of jobs in good order: this attempt does not count."""
        with self._database.writing() as session:
            for job_id in sorted(job_ids):
                row = locked_job(session, job_id)
                if row is not None and row.attempts > 0:
                    row.attempts -= 1

    # handing over to the job engine

    def not_submitted(self, older_than: float, limit: int = 500) -> list[str]:
        """Ids of jobs that the engine was not given, as far as is known; oldest first.

        Args:
            older_than: seconds; a younger one is probably being given to it at this moment.
            limit: at most so many.
        """
        query = (
            select(JobRow.job_id)
            .where(JobRow.submitted_at.is_(None), JobRow.created_at <= self._clock() - older_than)
            .where(JobRow.state.in_(UNFINISHED_JOB_STATES))
            .order_by(JobRow.created_at)
            .limit(limit)
        )
        with self._database.reading() as session:
            return list(session.scalars(query))

    def submitted(self, job_ids: Sequence[str]) -> None:
        """The engine has these jobs."""
        with self._database.writing() as session:
            session.execute(update(JobRow).where(JobRow.job_id.in_(job_ids)).values(submitted_at=self._clock()))

    # deliveries

    def begin_deliveries(self, job_id: str) -> list[str]:
        """Write a pending delivery for each destination of a job; returns the destinations."""
        with self._database.writing() as session:
            row = locked_job(session, job_id)
            if row is None:
                raise NotThereError(f"no job {job_id}")
            if row.state == JobState.CANCELLED:
                return []
            for destination in row.destinations:
                insert_if_absent(
                    session,
                    DeliveryRow,
                    job_id=job_id,
                    destination=destination,
                    state=DeliveryState.PENDING,
                    attempts=0,
                    delivered=[],
                    refused=[],
                    text=None,
                    updated_at=self._clock(),
                )
            return list(row.destinations)

    def set_delivery(
        self,
        job_id: str,
        destination: str,
        state: DeliveryState,
        *,
        attempts: int,
        delivered: list[str] | None = None,
        refused: list[str] | None = None,
        text: str | None = None,
    ) -> bool:
        """Write what became of an attempt, and finish the job when it was the last delivery that it waited for.

        Returns:
            False, and nothing was changed, when the delivery had its end already: another worker made it.
        """
        with self._database.writing() as session:
            job = locked_job(session, job_id)
            row = session.get(DeliveryRow, (job_id, destination))
            if job is None or row is None:
                raise LookupError(f"no delivery of job {job_id} to {destination}")
            if row.state in FINAL_DELIVERY_STATES:
                return False
            row.state = state
            row.attempts = attempts
            row.text = text
            row.updated_at = self._clock()
            if delivered is not None:
                row.delivered = delivered
            if refused is not None:
                row.refused = refused
            session.flush()
            states = set(session.scalars(select(DeliveryRow.state).where(DeliveryRow.job_id == job_id)))
            if job.state == JobState.DELIVERING and states <= set(FINAL_DELIVERY_STATES):
                failed = DeliveryState.FAILED in states
                job.state = JobState.FAILED if failed else JobState.DONE
                job.error = "a destination could not be reached; see its delivery" if failed else job.error
                job.finished_at = self._clock()
        return True

    def is_delivery_ended(self, job_id: str, destination: str) -> bool:
        """Whether nothing more is to be done for a delivery."""
        with self._database.reading() as session:
            row = session.get(DeliveryRow, (job_id, destination))
            return row is not None and row.state in FINAL_DELIVERY_STATES

    def deliveries(self, job_id: str) -> list[DeliveryRow]:
        """A job's deliveries, in the order of the destinations' names."""
        query = select(DeliveryRow).where(DeliveryRow.job_id == job_id).order_by(DeliveryRow.destination)
        with self._database.reading() as session:
            return list(session.scalars(query))

    def delivery_counts(self) -> dict[tuple[str, ...], float]:
        """(destination, state) -> number of deliveries."""
        query = select(DeliveryRow.destination, DeliveryRow.state, func.count()).group_by(
            DeliveryRow.destination, DeliveryRow.state
        )
        with self._database.reading() as session:
            return {(destination, state): count for destination, state, count in session.execute(query)}


def queue_order() -> tuple[Any, ...]:
    """What unfinished jobs are ordered by to be in the order in which they are taken."""
    running = case({JobState.RUNNING: 0, JobState.DELIVERING: 1}, value=JobRow.state, else_=2)
    urgency = case({priority: priority.rank for priority in Priority}, value=JobRow.priority, else_=0)
    return running, urgency, JobRow.created_at


def locked_job(session: Session, job_id: str) -> JobRow | None:
    """A job as it is now; until the transaction's end no other one changes it or its deliveries."""
    query = select(JobRow).where(JobRow.job_id == job_id).with_for_update()
    return session.scalar(query.execution_options(populate_existing=True))
