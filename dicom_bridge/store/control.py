"""What operators may do to jobs and deliveries: the only ways out of a final state, and into a cancelled one.

Each is one transaction. A re-driven job or delivery gets the next drive, and with it a workflow of its own, and counts
as not submitted until the engine has it: a crash between the two loses nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import ColumnElement, func, literal_column, select
from sqlalchemy.orm import Session

from dicom_bridge.errors import NotThereError
from dicom_bridge.store.database import Database
from dicom_bridge.store.ledger import (
    FINAL_DELIVERY_STATES,
    FINAL_JOB_STATES,
    DeliveryState,
    JobState,
    locked_job,
)
from dicom_bridge.store.tables import DeliveryRow, JobRow
from rcmed.errors import RCMedError

_DEAD = (DeliveryState.FAILED, DeliveryState.REFUSED)
_REDRIVEN = (*_DEAD, DeliveryState.CANCELLED)


class NotPossibleError(RCMedError):
    """What an operator asked for can't be done to a job in its state; the text says why."""


@dataclass(frozen=True)
class DeadLetter:
    """A job that failed, or a delivery that was given up or refused.

    Attributes:
        job_id, study_uid, series_uid, route: which job.
        destination: of the delivery; None: the job itself failed.
        state: failed, or refused.
        reason: why.
        at: when, in seconds since the epoch.
    """

    job_id: str
    study_uid: str
    series_uid: str
    route: str
    destination: str | None
    state: str
    reason: str
    at: float


class JobControl:
    """Every method is safe to call from any thread and process; writes are durable on return."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def cancel(self, job_id: str) -> JobRow:
        """End an unfinished job and its unfinished deliveries; what was delivered stays so.

        Raises:
            NotThereError: no such job.
            NotPossibleError: it has its end.
        """
        with self._database.writing() as session:
            job = _job(session, job_id)
            if job.state in FINAL_JOB_STATES:
                raise NotPossibleError(f"the job is {job.state}: only a job that is not at its end can be cancelled")
            job.state, job.finished_at, job.error = JobState.CANCELLED, self._clock(), "cancelled by an operator"
            for delivery in _deliveries(session, job_id):
                if delivery.state not in FINAL_DELIVERY_STATES:
                    delivery.state, delivery.updated_at = DeliveryState.CANCELLED, self._clock()
            return job

    def redrive_job(self, job_id: str) -> JobRow:
        """Do a job again from its beginning, with the same UIDs; what was delivered is not delivered again.

        Raises:
            NotThereError: no such job.
            NotPossibleError: it is not at its end, or it is done.
        """
        with self._database.writing() as session:
            job = _job(session, job_id)
            if job.state not in FINAL_JOB_STATES or job.state == JobState.DONE:
                raise NotPossibleError(
                    f"the job is {job.state}: only one that failed, was refused or cancelled is retried"
                )
            job.state, job.error, job.finished_at, job.submitted_at = JobState.QUEUED, None, None, None
            job.drive += 1
            job.attempts = 0
            for delivery in _deliveries(session, job_id):
                if delivery.state != DeliveryState.DELIVERED:
                    _drive_again(delivery, self._clock())
            return job

    def redrive_deliveries(self, job_id: str, destination: str | None = None) -> list[str]:
        """Deliver the results of a job again where they were given up, refused or cancelled.

        Args:
            job_id: of the job.
            destination: only this one.
        Returns:
            the destinations.
        Raises:
            NotThereError: no such job.
            NotPossibleError: there is no such delivery.
        """
        with self._database.writing() as session:
            job = _job(session, job_id)
            again = [
                delivery
                for delivery in _deliveries(session, job_id)
                if delivery.state in _REDRIVEN and destination in (None, delivery.destination)
            ]
            if not again or job.state not in (*FINAL_JOB_STATES, JobState.DELIVERING):
                raise NotPossibleError("there is no delivery that was given up, refused or cancelled")
            for delivery in again:
                _drive_again(delivery, self._clock())
            job.state, job.error, job.finished_at, job.submitted_at = JobState.DELIVERING, None, None, None
            return [delivery.destination for delivery in again]

    def dead_letters(
        self, destination: str | None = None, reason: str | None = None, limit: int = 200
    ) -> list[DeadLetter]:
        """What failed, was given up or refused, and was not driven again; latest first.

        Args:
            destination: only deliveries to it; "" only jobs that failed themselves.
            reason: only what failed for it.
            limit: at most so many.
        """
        found: list[DeadLetter] = []
        dead = select(DeliveryRow.job_id).where(DeliveryRow.state.in_(_DEAD))
        jobs = select(JobRow).where(JobRow.state == JobState.FAILED, JobRow.job_id.not_in(dead))
        deliveries = select(DeliveryRow, JobRow).join(JobRow, JobRow.job_id == DeliveryRow.job_id)
        deliveries = deliveries.where(DeliveryRow.state.in_(_DEAD))
        if destination:
            deliveries = deliveries.where(DeliveryRow.destination == destination)
        if reason is not None:
            jobs = jobs.where(func.coalesce(JobRow.error, "") == reason)
            deliveries = deliveries.where(func.coalesce(DeliveryRow.text, "") == reason)
        with self._database.reading() as session:
            if not destination:
                for job in session.scalars(jobs.order_by(JobRow.finished_at.desc()).limit(limit)):
                    found.append(_letter(job, None, job.state, job.error, job.finished_at or job.created_at))
            if destination != "":
                for row, job in session.execute(deliveries.order_by(DeliveryRow.updated_at.desc()).limit(limit)):
                    found.append(_letter(job, row.destination, row.state, row.text, row.updated_at))
        return sorted(found, key=lambda letter: -letter.at)[:limit]

    def dead_letter_counts(self) -> dict[tuple[str | None, str], int]:
        """(destination, or None for the jobs themselves; reason) -> how many."""
        dead = select(DeliveryRow.job_id).where(DeliveryRow.state.in_(_DEAD))
        # As a literal: PostgreSQL takes a parameter that occurs twice for two, and the grouping for another expression.
        nothing: ColumnElement[str] = literal_column("''")
        error, reason = func.coalesce(JobRow.error, nothing), func.coalesce(DeliveryRow.text, nothing)
        jobs = (
            select(error, func.count())
            .where(JobRow.state == JobState.FAILED, JobRow.job_id.not_in(dead))
            .group_by(error)
        )
        deliveries = (
            select(DeliveryRow.destination, reason, func.count())
            .where(DeliveryRow.state.in_(_DEAD))
            .group_by(DeliveryRow.destination, reason)
        )
        counts: dict[tuple[str | None, str], int] = {}
        with self._database.reading() as session:
            for text, count in session.execute(jobs):
                counts[None, text] = count
            for destination, text, count in session.execute(deliveries):
                counts[destination, text] = count
        return counts


def _letter(job: JobRow, destination: str | None, state: str, reason: str | None, at: float) -> DeadLetter:
    return DeadLetter(job.job_id, job.study_uid, job.series_uid, job.route, destination, state, reason or "", at)


def _job(session: Session, job_id: str) -> JobRow:
    row = locked_job(session, job_id)
    if row is None:
        raise NotThereError(f"no job {job_id}")
    return row


def _deliveries(session: Session, job_id: str) -> list[DeliveryRow]:
    return list(session.scalars(select(DeliveryRow).where(DeliveryRow.job_id == job_id)))


def _drive_again(delivery: DeliveryRow, now: float) -> None:
    delivery.state = DeliveryState.PENDING
    delivery.drive += 1
    delivery.attempts = 0
    delivery.updated_at = now
