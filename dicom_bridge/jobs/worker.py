"""The course of a job: begun, read, answered, delivered, ended. Each step can be done again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from dicom_bridge.delivery.condition import DestinationConditions
from dicom_bridge.delivery.destination import Destination, DestinationUnavailableError, files_for
from dicom_bridge.events.sink import Observer
from dicom_bridge.jobs.answer_writer import AnswerWriter, say_of_job
from dicom_bridge.jobs.ledger import Attempt, JobLedger
from dicom_bridge.settings import DeliverySettings
from dicom_bridge.store.index import StudyIndex
from dicom_bridge.store.states import DeliveryState, JobState
from dicom_bridge.store.tables import JobRow
from dicom_bridge.studies.priority import Priority

_LOOK_SECONDS = 1.0


@runtime_checkable
class LoadsLater(Protocol):
    """An assistant that may not be there yet; `LoadingAssistant` is one."""

    @property
    def is_loaded(self) -> bool:
        """Whether it is there."""
        ...

    def await_loaded(self) -> None:
        """Wait until it is there."""
        ...


class GatewayStoppingError(BaseException):
    """The gateway stops while a step waits.

    Not an Exception: the job engine records exceptions as outcomes, but an interrupted step has none and is to be
    done again after the restart.
    """


@dataclass(frozen=True)
class Submission:
    """What the engine has to have of a job.

    Attributes:
        drive: how often it was driven, this time included.
        priority: of it and its deliveries.
        deliveries: destination -> drive, of those that are to be made.
    """

    drive: int
    priority: Priority
    deliveries: Mapping[str, int]


class JobWorker:
    """Does the steps of jobs. Knows nothing of the engine that calls it."""

    def __init__(
        self,
        index: StudyIndex,
        ledger: JobLedger,
        answers: AnswerWriter,
        destinations: Mapping[str, Destination],
        patience: DeliverySettings,
        on_change: Callable[[], None] = lambda: None,
        observer: Observer | None = None,
        conditions: DestinationConditions | None = None,
        maximum_attempts: int = 3,
    ) -> None:
        """Prepare.

        Args:
            index: takes the lines said of jobs.
            ledger: of the jobs.
            answers: written of the jobs' series.
            destinations: by name.
            patience: with destinations.
            on_change: called when a job's or a delivery's state changed.
            observer: hears of deliveries.
            conditions: of the destinations, kept up to date.
            maximum_attempts: after which a job that never comes to an end fails.
        """
        self._index = index
        self._ledger = ledger
        self.answers = answers
        self._destinations = destinations
        self._patience = patience
        self._on_change = on_change
        self._observer = observer or Observer()
        self._conditions = conditions or DestinationConditions(destinations)
        self._maximum_attempts = maximum_attempts
        self.stopping = threading.Event()

    def begin(self, job_id: str) -> JobState | None:
        """A process begins a job or goes on with it; returns the end that it has, or None: it is to be worked on.

        A job that was begun so often that it may be what kills its process gets its end here.
        """
        attempt = self._ledger.begin_attempt(job_id, self._maximum_attempts)
        if attempt is Attempt.BEGUN:
            return None
        if attempt is Attempt.TOO_MANY:
            times = f"{self._maximum_attempts} times"
            text = f"the process died {times} in the middle of the job (jobs.maximum_attempts); it is not tried again"
            self.finish(job_id, JobState.FAILED, text)
        return JobState(self._ledger.job(job_id).state)

    def overran(self, job_id: str, seconds: float) -> None:
        """A job took longer than it may: it fails, and is not begun again when the process starts anew."""
        text = (
            f"the job worked longer than jobs.time_limit_seconds ({seconds:g}) and was ended: "
            "raise the limit, or route less of the study here"
        )
        self.finish(job_id, JobState.FAILED, text)

    def let_go(self, job_ids: Iterable[str]) -> None:
        """Jobs that are interrupted in good order: they go on later, and this attempt does not count."""
        self._ledger.end_attempts(job_ids)

    def await_assistant(self, job_id: str) -> None:
        """Wait until the assistant is there; what the process dies of meanwhile is no fault of the job.

        Raises:
            GatewayStoppingError: the gateway stops.
        """
        assistant = self.answers.assistant
        if isinstance(assistant, LoadsLater) and not assistant.is_loaded:
            self._ledger.end_attempts([job_id])
            assistant.await_loaded()
            self._ledger.begin_attempt(job_id, self._maximum_attempts)

    def read(self, job_id: str) -> int:
        """Begin to work on a job: read its instances; returns the number of images."""
        self._ledger.set_state(job_id, JobState.RUNNING)
        self._on_change()
        return self.answers.read(job_id)

    def hand_over(self, job_id: str) -> list[str]:
        """Write the deliveries that are to be made; returns the destinations."""
        destinations = self._ledger.begin_deliveries(job_id)
        self._ledger.set_state(job_id, JobState.DELIVERING)
        self.answers.forget(job_id)
        self._on_change()
        return destinations

    def finish(self, job_id: str, state: JobState, error: str | None = None) -> None:
        """End a job that has nothing to deliver."""
        if error is not None:
            self._say(self._ledger.job(job_id), error)
        self._ledger.set_state(job_id, state, error)
        self.answers.forget(job_id)
        self._on_change()

    def attempt_delivery(self, job_id: str, destination: str, files: Sequence[str], attempt: int) -> bool:
        """Try once to deliver; from the second attempt on after a wait.

        Returns:
            True when nothing more is to be tried: delivered, refused or given up.
        Raises:
            GatewayStoppingError: the gateway stops during the wait.
        """
        if attempt > 1:
            self._wait_for_next_attempt(job_id, destination, self._patience.wait_before(attempt - 1))
        if self._ledger.is_delivery_ended(job_id, destination):
            return True
        job = self._ledger.job(job_id)
        target = self._destinations.get(destination)
        try:
            if target is None:
                raise DestinationUnavailableError("is not configured any more")
            taken = files_for(target, [self.answers.root / file for file in files])
            if not taken:
                return self._nothing_to_deliver(job, destination, attempt)
            with self._observer.step("deliver", job, destination=destination, attempt=attempt):
                receipt = target.deliver(taken)
        except DestinationUnavailableError as error:
            return self._not_delivered(job, destination, attempt, str(error), is_known=target is not None)
        for refused in receipt.refused:
            self._say(job, f"destination {destination} refused {refused.instance_uid}: {refused.reason}")
        refusals = [refused.instance_uid for refused in receipt.refused]
        is_first = self._ledger.set_delivery(
            job_id,
            destination,
            DeliveryState.REFUSED if refusals else DeliveryState.DELIVERED,
            attempts=attempt,
            delivered=list(receipt.delivered),
            refused=refusals,
            text="; ".join(refused.reason for refused in receipt.refused) or f"confirmed by {receipt.confirmed_by}",
        )
        self._conditions.answered(destination)
        if not is_first:  # this worker was paused, and another one delivered the same objects
            return True
        self._observer.delivered(destination, job.study_uid, receipt.delivered, refusals, receipt.confirmed_by)
        self._on_change()
        return True

    def _nothing_to_deliver(self, job: JobRow, destination: str, attempt: int) -> bool:
        """Nothing was written of the kinds that a destination takes: no picture without a finding, for example."""
        text = "nothing was written of what it takes"
        self._ledger.set_delivery(job.job_id, destination, DeliveryState.DELIVERED, attempts=attempt, text=text)
        self._on_change()
        return True

    def submission(self, job_id: str) -> Submission:
        """What the engine has to have of an unfinished job; asked for again it is the same.

        Raises:
            NotThereError: no such job.
        """
        job = self._ledger.job(job_id)
        deliveries = {
            row.destination: row.drive
            for row in (self._ledger.deliveries(job_id) if job.state == JobState.DELIVERING else ())
            if not self._ledger.is_delivery_ended(job_id, row.destination)
        }
        return Submission(job.drive, Priority(job.priority), deliveries)

    def delivery_drive(self, job_id: str, destination: str) -> int:
        """How often a delivery was driven, this time included."""
        drives = {row.destination: row.drive for row in self._ledger.deliveries(job_id)}
        return drives[destination]

    def stop(self) -> None:
        """No step waits any more, and nothing is read ahead."""
        self.stopping.set()
        self.answers.stop()

    def _wait_for_next_attempt(self, job_id: str, destination: str, seconds: float) -> None:
        """Wait; ends before where the delivery was cancelled, by whichever process.

        Raises:
            GatewayStoppingError: the gateway stops.
        """
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if self.stopping.wait(min(left, _LOOK_SECONDS)):
                raise GatewayStoppingError
            if self._ledger.is_delivery_ended(job_id, destination):
                return

    def _not_delivered(self, job: JobRow, destination: str, attempt: int, reason: str, is_known: bool) -> bool:
        """Record an attempt that failed; returns whether it was the last one."""
        given_up = not is_known or attempt >= self._patience.maximum_attempts
        outcome = "given up" if given_up else "will be tried again"
        self._say(job, f"destination {destination}: {reason}; {outcome}", level="error" if given_up else "warning")
        state = DeliveryState.FAILED if given_up else DeliveryState.WAITING
        if not self._ledger.set_delivery(job.job_id, destination, state, attempts=attempt, text=reason):
            return True
        self._conditions.failed(destination, reason, None if given_up else self._patience.wait_before(attempt))
        self._observer.delivery_failed(destination, job.study_uid, reason, given_up)
        self._on_change()
        return given_up

    def _say(self, job: JobRow, text: str, level: str = "error") -> None:
        say_of_job(self._index, job, text, level)
