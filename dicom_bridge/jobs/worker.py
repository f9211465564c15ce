"""The work of a job, step by step. Each step can be done again: its files have fixed names and appear whole."""

from __future__ import annotations

import io
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from PIL import Image as PillowImage
from pydicom.dataset import Dataset

from dicom_bridge.delivery.condition import DestinationConditions
from dicom_bridge.delivery.destination import Destination, DestinationUnavailableError, files_for
from dicom_bridge.events.sink import Observer
from dicom_bridge.jobs.ledger import Attempt, JobLedger
from dicom_bridge.jobs.memory import TooLargeError
from dicom_bridge.jobs.reading_ahead import JobReading, ReadingAhead, read_files
from dicom_bridge.results.kinds import DEFAULT_RESULTS, DICOM_SUFFIX, MESSAGE_FILES, MessageKind, ResultKind
from dicom_bridge.settings import DeliverySettings
from dicom_bridge.store.index import StudyIndex
from dicom_bridge.store.instance_files import InstanceFiles
from dicom_bridge.store.states import DeliveryState, JobState
from dicom_bridge.store.tables import JobRow
from dicom_bridge.studies.priority import Priority
from dicom_bridge.studies.routing import Route
from rcmed.durable_files import write_durably
from rcmed.findings import Findings, ModelIdentity
from rcmed.findings.json_file import write_findings_json
from rcmed.image import Image

if TYPE_CHECKING:
    from dicom_bridge.results.filing import FiledResults
    from dicom_bridge.results.identifiers import ResultIdentifiers

FINDINGS_FILE = "findings.json"
FIRST_RESULT_SERIES_NUMBER = 9001

_LOG = logging.getLogger(__name__)
_LOOK_SECONDS = 1.0


class FindsInImages(Protocol):
    """What the gateway needs of an assistant; `rcmed.Assistant` has it."""

    @property
    def identity(self) -> ModelIdentity:
        """Which model speaks."""
        ...

    def find(self, image: Image, prompts: str | Sequence[str]) -> Findings:
        """Find what the prompts name; no prompts: what is there."""
        ...


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


@dataclass
class _Memory:
    """What one job holds between its steps; computed again when a restart took it away."""

    reading: JobReading | None = None
    findings: dict[int, Findings] = field(default_factory=dict)


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
        root: Path,
        index: StudyIndex,
        ledger: JobLedger,
        assistant: FindsInImages,
        destinations: Mapping[str, Destination],
        patience: DeliverySettings,
        on_change: Callable[[], None] = lambda: None,
        observer: Observer | None = None,
        conditions: DestinationConditions | None = None,
        routes: Sequence[Route] = (),
        reading_ahead_bytes: int = 0,
        memory_bytes: int | None = None,
        maximum_attempts: int = 3,
    ) -> None:
        """Prepare.

        Args:
            root: the state folder; results go to `root/jobs/<job id>`.
            index: of the instances.
            ledger: of the jobs.
            assistant: finds.
            destinations: by name.
            patience: with destinations.
            on_change: called when a job's or a delivery's state changed.
            observer: is told of steps and deliveries.
            conditions: of the destinations, kept up to date.
            routes: say which objects are written; a job of a route that is gone gets SEG and SR.
            reading_ahead_bytes: most of a study that `read_ahead` reads.
            memory_bytes: that a job may take beside the model; None: as much as it wants.
            maximum_attempts: after which a job that never comes to an end fails.
        """
        self._root = root
        self._index = index
        self._ledger = ledger
        self._assistant = assistant
        self._destinations = destinations
        self._patience = patience
        self._on_change = on_change
        self._observer = observer or Observer()
        self._conditions = conditions or DestinationConditions(destinations)
        self._results = {route.name: route.results for route in routes}
        self._memory: dict[str, _Memory] = {}
        self._memory_bytes, self._maximum_attempts = memory_bytes, maximum_attempts
        self._ahead = ReadingAhead(reading_ahead_bytes, memory_bytes)
        self.stopping = threading.Event()

    def job_folder(self, job_id: str) -> Path:
        """Where a job's files lie."""
        return job_folder(self._root, job_id)

    def read_ahead(self, jobs: Iterable[JobRow]) -> None:
        """Read what these jobs would read, if they come to be and nothing else is to be done before."""
        if not self._ledger.has_unfinished():
            self._ahead.begin(self._files_of(job) for job in jobs)

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
        if isinstance(self._assistant, LoadsLater) and not self._assistant.is_loaded:
            self._ledger.end_attempts([job_id])
            self._assistant.await_loaded()
            self._ledger.begin_attempt(job_id, self._maximum_attempts)

    def read(self, job_id: str) -> int:
        """Read the job's instances into images, say what was refused; returns the number of images."""
        job = self._ledger.job(job_id)
        self._ledger.set_state(job_id, JobState.RUNNING)
        self._on_change()
        try:
            with self._observer.step("read", job):
                reading = self._read_images(job)
        except TooLargeError as error:
            self._say(job, f"series {job.series_uid}: {error}")
            return 0
        images = reading.series.images
        for refusal in reading.series.refusals:
            self._say(job, str(refusal.reason))
        for image in images:
            for warning in image.warnings:
                self._say(job, warning, level="warning")
        self._memory[job_id] = _Memory(reading)
        return len(images)

    def find(self, job_id: str, number: int) -> list[str]:
        """Ask the assistant about one image; writes findings.json and the overlays.

        Returns:
            paths of the files, relative to the state folder.
        """
        from dicom_bridge.results.kinds import SEGMENTATION_FILE
        from rcmed.evaluation.overlays import best_slice, paint_overlay

        job = self._ledger.job(job_id)
        image = self._image(job, number)
        with self._observer.step("find", job):
            findings = self._findings(job, number)
        folder = self._image_folder(job, number)
        folder.mkdir(parents=True, exist_ok=True)
        masks: dict[int, str] = {}
        files = [folder / FINDINGS_FILE]
        for place, finding in enumerate(findings.findings):
            if finding.reason:
                self._say(job, f"prompt {finding.prompt!r}: {finding.reason}", level="warning")
            if finding.is_present:
                masks[place] = SEGMENTATION_FILE
            if finding.target is not None:
                picture = paint_overlay(image, [finding], best_slice(image, finding))
                files.append(folder / f"overlay-{place + 1}.png")
                write_durably(files[-1], _png(picture))
        write_findings_json(image, findings, masks, folder / FINDINGS_FILE)
        return [str(path.relative_to(self._root)) for path in files]

    def build_results(self, job_id: str) -> list[str]:
        """Write what the route asks for of every image; returns the paths, relative to the state folder."""
        from dicom_bridge.results.identifiers import ResultIdentifiers

        job = self._ledger.job(job_id)
        files: list[str] = []
        for number in range(len(self._images(job))):
            identifiers = ResultIdentifiers.derive(
                job_id if number == 0 else f"{job_id}/{number}",
                created=datetime.fromtimestamp(job.created_at, tz=UTC).astimezone().replace(tzinfo=None),
                series_number=FIRST_RESULT_SERIES_NUMBER + 2 * number,
                route=job.route,
            )
            for filed in self._file_results(job, number, identifiers):
                for refusal in filed.refusals:
                    self._say(job, refusal, level="warning" if filed.files else "error")
                for loss in filed.losses:
                    self._say(job, loss, level="warning")
                files += [str(file.relative_to(self._root)) for file in filed.files]
        return files

    def _file_results(self, job: JobRow, number: int, identifiers: ResultIdentifiers) -> list[FiledResults]:
        """Write the objects of an image, then its messages, which may hold what was written before."""
        from dicom_bridge.messages.filing import file_messages
        from dicom_bridge.results.filing import file_results

        image, findings, folder = self._image(job, number), self._findings(job, number), self._image_folder(job, number)
        wanted, known = self._results_of(job), self._reading(job).sources
        objects = [kind for kind in wanted if isinstance(kind, ResultKind)]
        filed = []
        with self._observer.step("results", job):
            if objects:
                earlier = self._predecessors(job, folder)
                filed.append(file_results(image, findings, identifiers, folder, objects, earlier, known))
            filed.append(file_messages(image, findings, identifiers, folder, wanted, known))
        return filed

    def hand_over(self, job_id: str) -> list[str]:
        """Write the deliveries that are to be made; returns the destinations."""
        destinations = self._ledger.begin_deliveries(job_id)
        self._ledger.set_state(job_id, JobState.DELIVERING)
        self._memory.pop(job_id, None)
        self._on_change()
        return destinations

    def finish(self, job_id: str, state: JobState, error: str | None = None) -> None:
        """End a job that has nothing to deliver."""
        if error is not None:
            self._say(self._ledger.job(job_id), error)
        self._ledger.set_state(job_id, state, error)
        self._memory.pop(job_id, None)
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
            taken = files_for(target, [self._root / file for file in files])
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

    def destinations_of(self, job_id: str) -> list[str]:
        """Where its results go."""
        return list(self._ledger.job(job_id).destinations)

    def result_files(self, job_id: str) -> list[str]:
        """What a job has to deliver, relative to the state folder: DICOM files and messages in its folder."""
        patterns = (f"*{DICOM_SUFFIX}", *MESSAGE_FILES.values())
        found = [path for pattern in patterns for path in self.job_folder(job_id).glob(f"**/{pattern}")]
        return sorted(str(path.relative_to(self._root)) for path in found)

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
        self._ahead.stop()

    def forget(self, job_id: str) -> None:
        """A job does not go on: let go of what was kept for its next step."""
        self._memory.pop(job_id, None)

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

    def _read_images(self, job: JobRow) -> JobReading:
        InstanceFiles(self._root).require()
        files = self._files_of(job)
        return self._ahead.take(files) or read_files(files, self._memory_bytes)

    def _files_of(self, job: JobRow) -> list[Path]:
        known = self._index.instances_of(job.study_uid, job.series_uid)
        return [self._root / known[uid] for uid in job.instances if uid in known]

    def _images(self, job: JobRow) -> tuple[Image, ...]:
        return self._reading(job).series.images

    def _reading(self, job: JobRow) -> JobReading:
        memory = self._memory.setdefault(job.job_id, _Memory())
        if memory.reading is None:
            memory.reading = self._read_images(job)
        return memory.reading

    def _image(self, job: JobRow, number: int) -> Image:
        return self._images(job)[number]

    def _findings(self, job: JobRow, number: int) -> Findings:
        image = self._image(job, number)
        memory = self._memory.setdefault(job.job_id, _Memory())
        if number not in memory.findings:
            memory.findings[number] = self._assistant.find(image, job.prompts or "")
        return memory.findings[number]

    def _image_folder(self, job: JobRow, number: int) -> Path:
        folder = self.job_folder(job.job_id)
        return folder if len(self._images(job)) == 1 else folder / f"image-{number + 1}"

    def _results_of(self, job: JobRow) -> tuple[ResultKind | MessageKind, ...]:
        return self._results.get(job.route, DEFAULT_RESULTS)

    def _predecessors(self, job: JobRow, image_folder: Path) -> list[Dataset]:
        from dicom_bridge.results.reports.predecessors import earlier_reports

        earlier = [self.job_folder(one.job_id) for one in self._ledger.earlier_generations(job)]
        return earlier_reports(earlier, image_folder.relative_to(self.job_folder(job.job_id)).as_posix())

    def _say(self, job: JobRow, text: str, level: str = "error") -> None:
        self._index.add_line(text, level=level, study_uid=job.study_uid, series_uid=job.series_uid, job_id=job.job_id)


def job_folder(root: Path, job_id: str) -> Path:
    """Where a job's files lie under the state folder.

    Raises:
        ValueError: not a job id.
    """
    if len(job_id) != 64 or not set(job_id) <= set("0123456789abcdef"):
        raise ValueError("a job id has 64 hexadecimal digits")
    return root / "jobs" / job_id


def _png(picture: Any) -> bytes:
    buffer = io.BytesIO()
    PillowImage.fromarray(picture).save(buffer, format="PNG")
    return buffer.getvalue()
