"""The writer of answers: reads a job's series, asks the assistant, and writes what was found into the job's folder.

Each step can be done again: its files have fixed names and appear whole.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from PIL import Image as PillowImage
from pydicom.dataset import Dataset

from dicom_bridge.events.sink import Observer
from dicom_bridge.jobs.ledger import JobLedger
from dicom_bridge.jobs.memory import TooLargeError
from dicom_bridge.jobs.reading_ahead import JobReading, ReadingAhead, read_files
from dicom_bridge.results.kinds import DEFAULT_RESULTS, DICOM_SUFFIX, MESSAGE_FILES, MessageKind, ResultKind
from dicom_bridge.store.files.instance_files import InstanceFiles
from dicom_bridge.store.index import StudyIndex
from dicom_bridge.store.tables import JobRow
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


class FindsInImages(Protocol):
    """What the gateway needs of an assistant; `rcmed.Assistant` has it."""

    @property
    def identity(self) -> ModelIdentity:
        """Which model speaks."""
        ...

    def find(self, image: Image, prompts: str | Sequence[str]) -> Findings:
        """Find what the prompts name; no prompts: what is there."""
        ...


@dataclass
class _Memory:
    """What one job holds between its steps; computed again when a restart took it away."""

    reading: JobReading | None = None
    findings: dict[int, Findings] = field(default_factory=dict)


class AnswerWriter:
    """Answers the series of jobs; what a job holds between its steps is computed again where a restart took it away."""

    def __init__(
        self,
        root: Path,
        index: StudyIndex,
        ledger: JobLedger,
        assistant: FindsInImages,
        routes: Sequence[Route] = (),
        observer: Observer | None = None,
        reading_ahead_bytes: int = 0,
        memory_bytes: int | None = None,
    ) -> None:
        """Prepare.

        Args:
            root: the state folder; what is written goes to `root/jobs/<job id>`.
            index: of the instances.
            ledger: of the jobs.
            assistant: finds.
            routes: say which objects are written; a job of a route that is gone gets SEG and SR.
            observer: measures the steps.
            reading_ahead_bytes: most of a study that `read_ahead` reads.
            memory_bytes: that a job may take beside the model; None: as much as it wants.
        """
        self.root = root
        self._index = index
        self._ledger = ledger
        self.assistant = assistant
        self._results = {route.name: route.results for route in routes}
        self._observer = observer or Observer()
        self._memory: dict[str, _Memory] = {}
        self._memory_bytes = memory_bytes
        self._ahead = ReadingAhead(reading_ahead_bytes, memory_bytes)

    def folder(self, job_id: str) -> Path:
        """Where a job's files lie."""
        return job_folder(self.root, job_id)

    def read_ahead(self, jobs: Iterable[JobRow]) -> None:
        """Read what these jobs would read, if they come to be and nothing else is to be done before."""
        if not self._ledger.has_unfinished():
            self._ahead.begin(self._files_of(job) for job in jobs)

    def read(self, job_id: str) -> int:
        """Read a job's instances into images, say what was refused; returns the number of images."""
        job = self._ledger.job(job_id)
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
        image = self._images(job)[number]
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
        return [str(path.relative_to(self.root)) for path in files]

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
                files += [str(file.relative_to(self.root)) for file in filed.files]
        return files

    def _file_results(self, job: JobRow, number: int, identifiers: ResultIdentifiers) -> list[FiledResults]:
        """Write the objects of an image, then its messages, which hold the pages of the report to read."""
        from dicom_bridge.messages.filing import file_messages
        from dicom_bridge.results.filing import file_results

        image, findings = self._images(job)[number], self._findings(job, number)
        folder = self._image_folder(job, number)
        wanted, known = self._results.get(job.route, DEFAULT_RESULTS), self._reading(job).sources
        objects = [kind for kind in wanted if isinstance(kind, ResultKind)]
        messages = [kind for kind in MessageKind if kind in wanted]
        filed: list[FiledResults] = []
        pages: bytes | None = None
        with self._observer.step("results", job):
            if objects:
                earlier = self._predecessors(job, folder)
                filed.append(file_results(image, findings, identifiers, folder, objects, earlier, known))
                pages = filed[0].pages
            if messages:
                filed.append(file_messages(image, findings, identifiers, folder, messages, pages, known))
        return filed

    def result_files(self, job_id: str) -> list[str]:
        """What a job has to deliver, relative to the state folder: DICOM files and messages in its folder."""
        patterns = (f"*{DICOM_SUFFIX}", *MESSAGE_FILES.values())
        found = [path for pattern in patterns for path in self.folder(job_id).glob(f"**/{pattern}")]
        return sorted(str(path.relative_to(self.root)) for path in found)

    def forget(self, job_id: str) -> None:
        """A job does not go on: let go of what was kept for its next step."""
        self._memory.pop(job_id, None)

    def stop(self) -> None:
        """Nothing is read ahead any more."""
        self._ahead.stop()

    def _read_images(self, job: JobRow) -> JobReading:
        InstanceFiles(self.root).require()
        files = self._files_of(job)
        return self._ahead.take(files) or read_files(files, self._memory_bytes)

    def _files_of(self, job: JobRow) -> list[Path]:
        known = self._index.instances_of(job.study_uid, job.series_uid)
        return [self.root / known[uid] for uid in job.instances if uid in known]

    def _images(self, job: JobRow) -> tuple[Image, ...]:
        return self._reading(job).series.images

    def _reading(self, job: JobRow) -> JobReading:
        memory = self._memory.setdefault(job.job_id, _Memory())
        if memory.reading is None:
            memory.reading = self._read_images(job)
        return memory.reading

    def _findings(self, job: JobRow, number: int) -> Findings:
        image = self._images(job)[number]
        memory = self._memory.setdefault(job.job_id, _Memory())
        if number not in memory.findings:
            memory.findings[number] = self.assistant.find(image, job.prompts or "")
        return memory.findings[number]

    def _image_folder(self, job: JobRow, number: int) -> Path:
        folder = self.folder(job.job_id)
        return folder if len(self._images(job)) == 1 else folder / f"image-{number + 1}"

    def _predecessors(self, job: JobRow, image_folder: Path) -> list[Dataset]:
        from dicom_bridge.results.reports.predecessors import earlier_reports

        earlier = [self.folder(one.job_id) for one in self._ledger.earlier_generations(job)]
        return earlier_reports(earlier, image_folder.relative_to(self.folder(job.job_id)).as_posix())

    def _say(self, job: JobRow, text: str, level: str = "error") -> None:
        say_of_job(self._index, job, text, level)


def say_of_job(index: StudyIndex, job: JobRow, text: str, level: str = "error") -> None:
    """Say a line of a job, once."""
    index.add_line(text, level=level, study_uid=job.study_uid, series_uid=job.series_uid, job_id=job.job_id)


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
