"""What operators do, by page or REST: decided in the ledger, handed to the engine, written to the audit trail."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from dicom_bridge.events.sink import Observer
from dicom_bridge.jobs.answers import Answer
from dicom_bridge.jobs.control import DeadLetter, JobControl, NotPossibleError
from dicom_bridge.jobs.ledger import JobLedger
from dicom_bridge.store.index import StudyIndex
from dicom_bridge.store.marks import FindingMarks, Mark
from dicom_bridge.store.states import FINAL_DELIVERY_STATES, DeliveryState, JobState
from dicom_bridge.store.tables import DeliveryRow, JobRow

_AT_ONCE = 100_000
MARKED = ("found", "absent", "uncertain", "implausible")
"""Of the statuses of findings those that say something of the image, which may be right or wrong."""


@dataclass(frozen=True)
class Operator:
    """Who asks: from which address, and under which name where it brought one."""

    address: str
    user: str | None = None


class OperatorActions:
    """Cancels, retries, drives again, and says that studies are complete. Safe to call from any thread."""

    def __init__(
        self,
        control: JobControl,
        ledger: JobLedger,
        index: StudyIndex,
        submit: Callable[[Sequence[str]], None],
        cancel: Callable[[JobRow, Sequence[DeliveryRow]], None],
        has_results: Callable[[str], bool],
        destinations: Collection[str],
        observer: Observer,
        on_change: Callable[[], None] = lambda: None,
        marks: FindingMarks | None = None,
        answers: Callable[[str], Sequence[Answer]] = lambda job_id: (),
    ) -> None:
        """Prepare.

        Args:
            control, ledger, index: of jobs and studies.
            submit: hands unfinished jobs to the engine.
            cancel: takes a job and deliveries of it from the engine.
            has_results: whether a job's results are still there to be delivered.
            destinations: that are configured.
            observer: is told who did what.
            on_change: called after something was done.
            marks: of findings; None: they can't be marked.
            answers: of a job, by its id.
        """
        self._control = control
        self._ledger = ledger
        self._index = index
        self._submit = submit
        self._cancel = cancel
        self._has_results = has_results
        self._destinations = destinations
        self._observer = observer
        self._on_change = on_change
        self._marks = marks
        self._answers = answers

    def cancel(self, job_id: str, by: Operator) -> None:
        """End a job and its deliveries; the step that runs is its last one.

        Raises:
            NotThereError: no such job.
            NotPossibleError: it has its end.
        """
        unfinished = [row for row in self._ledger.deliveries(job_id) if row.state not in FINAL_DELIVERY_STATES]
        job = self._control.cancel(job_id)
        self._cancel(job, unfinished)
        self._done("cancel", by, job)

    def retry(self, job_id: str, by: Operator) -> None:
        """Do a job again: its deliveries where only they are missing, else all of it. The UIDs stay the same.

        Raises:
            NotThereError: no such job.
            NotPossibleError: nothing of it failed.
        """
        job = self._ledger.job(job_id)
        missing = [row for row in self._ledger.deliveries(job_id) if row.state != DeliveryState.DELIVERED]
        if missing and self._has_results(job_id):
            for row in missing:
                self._require_destination(row.destination)
            self._control.redrive_deliveries(job_id)
        else:
            job = self._control.redrive_job(job_id)
        self._submit([job_id])
        self._done("retry", by, job)

    def redrive(self, job_id: str, destination: str, by: Operator) -> None:
        """Deliver a job's results to a destination again, with the same UIDs.

        Raises:
            NotThereError: no such job.
            NotPossibleError: it was delivered, is being delivered, or the destination is not configured any more.
        """
        self._require_destination(destination)
        job = self._ledger.job(job_id)
        if not self._has_results(job_id):
            raise NotPossibleError("the results of the job are not there any more: retry the job")
        self._control.redrive_deliveries(job_id, destination)
        self._submit([job_id])
        self._done("re-drive", by, job, destination=destination)

    def redrive_all(self, destination: str | None, reason: str | None, by: Operator) -> int:
        """Do again what is in the list of what failed; returns how many. One that can't be is left there.

        Args:
            destination: only deliveries to it; "" only jobs that failed themselves; None: all.
            reason: only what failed for it.
        """
        count = 0
        for letter in self._control.dead_letters(destination, reason, limit=_AT_ONCE):
            try:
                self._redrive_letter(letter, by)
            except NotPossibleError:
                continue
            count += 1
        return count

    def complete(self, study_uid: str, expected: int | None, by: Operator) -> None:
        """Say that a study is complete, or that it is with so many instances.

        Raises:
            NotThereError: no such study.
            NotPossibleError: it is complete already.
        """
        if not self._index.mark_complete(study_uid, expected):
            raise NotPossibleError(
                "the study is complete already; an instance that comes later opens its next generation"
            )
        self._observer.operated("complete", by.address, by.user, study=study_uid, expected=expected)
        self._on_change()

    def mark(self, job_id: str, image: int, finding: int, mark: Mark | None, by: Operator) -> None:
        """Say that a finding is right or wrong; None takes back what was said. The last word counts.

        Args:
            job_id: of the job that found it, or did not find it.
            image, finding: number of the image in the job, and of the finding in its answer; from 1.
            mark: what is said.
            by: who says it.
        Raises:
            NotThereError: no such job.
            NotPossibleError: it has no such finding, or one that says nothing of the image, or is being done again.
        """
        job = self._ledger.job(job_id)
        if job.state in (JobState.QUEUED, JobState.RUNNING):
            raise NotPossibleError(f"the job is {job.state}: its findings are marked when they are there")
        found = [answer.content["findings"] for answer in self._answers(job_id) if answer.image == image]
        if self._marks is None or not found or not 1 <= finding <= len(found[0]):
            raise NotPossibleError("the job has no such finding: look at its study again")
        told = found[0][finding - 1]
        target, status = str(told.get("target") or told.get("prompt")), str(told.get("status"))
        if status not in MARKED:
            raise NotPossibleError(f"the finding is {status}: only what was found or not found is right or wrong")
        self._marks.set(job_id, job.drive, image, finding, mark, target, status)
        which = {"image": image, "finding": finding, "target": target, "status": status}
        said = "none" if mark is None else mark.value
        self._observer.operated(
            "mark", by.address, by.user, job=job_id, study=job.study_uid, series=job.series_uid, **which, mark=said
        )

    def _redrive_letter(self, letter: DeadLetter, by: Operator) -> None:
        if letter.destination is None or not self._has_results(letter.job_id):
            self.retry(letter.job_id, by)
        else:
            self.redrive(letter.job_id, letter.destination, by)

    def _require_destination(self, destination: str) -> None:
        if destination not in self._destinations:
            raise NotPossibleError(
                f"destination {destination} is not configured any more: name it in the routing again"
            )

    def _done(self, action: str, by: Operator, job: JobRow, destination: str | None = None) -> None:
        told = {"job": job.job_id, "study": job.study_uid, "series": job.series_uid, "destination": destination}
        self._observer.operated(action, by.address, by.user, **told)
        self._on_change()
