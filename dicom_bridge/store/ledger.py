"""The state of every job and of every delivery, for the status page and for the restart."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum

from sqlalchemy import func, select

from dicom_bridge.store.database import Database
from dicom_bridge.store.tables import DeliveryRow, JobRow


class JobState(StrEnum):
    """QUEUED, RUNNING and DELIVERING go on after a restart; the others are final."""

    QUEUED = "queued"
    RUNNING = "running"
    DELIVERING = "delivering"
    DONE = "done"
    REFUSED = "refused"  # the series holds nothing that can be looked at; its lines say why
    FAILED = "failed"


class DeliveryState(StrEnum):
    """Where one job's results stand with one destination. WAITING: it is sick and is asked again later."""

    PENDING = "pending"
    WAITING = "waiting"
    DELIVERED = "delivered"
    REFUSED = "refused"  # answered, but at least one object was not taken
    FAILED = "failed"  # given up


FINAL_JOB_STATES = (JobState.DONE, JobState.REFUSED, JobState.FAILED)
FINAL_DELIVERY_STATES = (DeliveryState.DELIVERED, DeliveryState.REFUSED, DeliveryState.FAILED)


class JobLedger:
    """Job and delivery records. Every method is safe to call from any thread."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def job(self, job_id: str) -> JobRow:
        """One job.

        Raises:
            LookupError: no such job.
        """
        with self._database.reading() as session:
            row = session.get(JobRow, job_id)
            if row is None:
                raise LookupError(f"no job {job_id}")
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
        query = select(JobRow).where(JobRow.state.not_in(FINAL_JOB_STATES)).order_by(JobRow.created_at)
        with self._database.reading() as session:
            return list(session.scalars(query))

    def count(self, state: JobState) -> int:
        """How many jobs are in a state."""
        with self._database.reading() as session:
            return session.scalar(select(func.count()).select_from(JobRow).where(JobRow.state == state)) or 0

    def set_state(self, job_id: str, state: JobState, error: str | None = None) -> None:
        """Write a job's state; a final state is never left."""
        with self._database.writing() as session:
            row = session.get(JobRow, job_id)
            if row is None or row.state in FINAL_JOB_STATES:
                return
            row.state = state
            row.error = error
            if state in FINAL_JOB_STATES:
                row.finished_at = self._clock()

    # deliveries

    def begin_deliveries(self, job_id: str) -> list[str]:
        """Write a pending delivery for each destination of a job; returns the destinations."""
        with self._database.writing() as session:
            row = session.get(JobRow, job_id)
            if row is None:
                raise LookupError(f"no job {job_id}")
            for destination in row.destinations:
                if session.get(DeliveryRow, (job_id, destination)) is None:
                    session.add(
                        DeliveryRow(
                            job_id=job_id,
                            destination=destination,
                            state=DeliveryState.PENDING,
                            attempts=0,
                            delivered=[],
                            refused=[],
                            text=None,
                            updated_at=self._clock(),
                        )
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
    ) -> None:
        """Write what became of an attempt, and finish the job when it was the last delivery that it waited for."""
        with self._database.writing() as session:
            row = session.get(DeliveryRow, (job_id, destination))
            if row is None:
                raise LookupError(f"no delivery of job {job_id} to {destination}")
            row.state = state
            row.attempts = attempts
            row.text = text
            row.updated_at = self._clock()
            if delivered is not None:
                row.delivered = delivered
            if refused is not None:
                row.refused = refused
            states = set(session.scalars(select(DeliveryRow.state).where(DeliveryRow.job_id == job_id)))
            job = session.get(JobRow, job_id)
            if job is not None and job.state == JobState.DELIVERING and states <= set(FINAL_DELIVERY_STATES):
                failed = DeliveryState.FAILED in states
                job.state = JobState.FAILED if failed else JobState.DONE
                job.error = "a destination could not be reached; see its delivery" if failed else job.error
                job.finished_at = self._clock()

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
