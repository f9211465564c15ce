"""The gateway: wires the rooms. A study goes in by C-STORE, findings come out as SEG and SR."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import TracebackType

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError

from dicom_bridge.delivery import open_destination
from dicom_bridge.delivery.condition import DestinationConditions
from dicom_bridge.delivery.dimse.commitment import CommitmentReports
from dicom_bridge.delivery.dimse.shared_reports import SharedCommitmentReports
from dicom_bridge.events.audit import AuditTrail, Rotation
from dicom_bridge.events.metrics import Metrics
from dicom_bridge.events.sink import Observer
from dicom_bridge.events.telemetry import open_telemetry
from dicom_bridge.gateway.listening import Inside, Listening
from dicom_bridge.gateway.study_watch import StudyWatch
from dicom_bridge.ingest.pull.orders import PullOrders
from dicom_bridge.jobs.answers import answers_of
from dicom_bridge.jobs.control import JobControl
from dicom_bridge.jobs.engine import JobEngine
from dicom_bridge.jobs.ledger import JobLedger
from dicom_bridge.jobs.loading import LoadingAssistant
from dicom_bridge.jobs.memory import memory_of_a_job
from dicom_bridge.jobs.time_limit import end_process
from dicom_bridge.jobs.worker import FindsInImages, JobWorker, job_folder
from dicom_bridge.jobs.worker_registry import WorkerRegistry
from dicom_bridge.operations.heartbeat import Heartbeat
from dicom_bridge.operations.operator_actions import OperatorActions
from dicom_bridge.operations.retention import Retention
from dicom_bridge.settings import GatewaySettings, RetentionSettings
from dicom_bridge.store.database import Database, index_address, open_database
from dicom_bridge.store.folder_lock import Turn, claim_name, lock_state_folder
from dicom_bridge.store.index import StudyIndex
from dicom_bridge.store.instance_files import InstanceFiles
from dicom_bridge.store.marks import FindingMarks
from dicom_bridge.store.removals import Removals
from dicom_bridge.store.states import FINAL_JOB_STATES, JobState
from dicom_bridge.store.tables import JobRow
from dicom_bridge.store.timeline import StudyTimeline
from rcmed.errors import ConfigurationError

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class GatewayPorts:
    """Where the gateway listens; `web` is None where the status page is switched off."""

    dicom: int
    web: int | None


class Gateway:
    """Everything between a C-STORE and a delivered result. One per process.

    With SQLite one per state folder; those that share a PostgreSQL database share the state folder, too.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        assistant: FindsInImages,
        receives: bool = True,
        end_process: Callable[[], None] = end_process,
    ) -> None:
        """Prepare; nothing is opened before `start`.

        Args:
            settings: of everything.
            assistant: finds; `rcmed.Assistant` or anything with its `identity` and `find`.
            receives: whether it listens, follows and watches; else it only works. That needs PostgreSQL.
            end_process: ends the process at once because a job is stuck; a new one, or the same anew, does the rest.
        """
        self._end_process = end_process
        self.settings = settings
        self.root = settings.state_folder.resolve()
        self._assistant = assistant
        self._receives = receives
        self._changed = threading.Condition()
        self._locks = ExitStack()
        self._turn = Turn(self.root, "retention")
        self._upkeep: Heartbeat | None = None
        self._database: Database | None = None
        self._listening: Listening | None = None
        self._engine: JobEngine | None = None
        self._audit: AuditTrail | None = None
        self._retention: Retention | None = None
        self._observer: Observer | None = None
        self.metrics: Metrics
        self._conditions: DestinationConditions
        self._watch: StudyWatch | None = None
        self.operating: OperatorActions
        self._files = InstanceFiles(self.root, keeps_cached=settings.receive.keep_cached)
        self.name = "gateway"
        self.index: StudyIndex
        self.story: StudyTimeline
        self.ledger: JobLedger

    @property
    def ports(self) -> GatewayPorts:
        """The ports in use, the free ones included that were taken for 0."""
        listening = self._listening
        return GatewayPorts(0, None) if listening is None else GatewayPorts(listening.dicom_port, listening.web_port)

    def start(self) -> None:
        """Open the store, take up unfinished jobs, listen.

        Raises:
            ConfigurationError: the state folder is in use or can't be written, or a port is taken.
        """
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        address = index_address(self.settings.database, self.root)
        shared = isinstance(address, URL)
        if not (self._receives or shared):
            raise ConfigurationError("database.url: must name a PostgreSQL database: SQLite serves one process")
        self._locks.enter_context(lock_state_folder(self.root, shared))
        self._locks.callback(self._turn.end)
        audit = "audit.jsonl"
        if shared:
            self.name, lock = claim_name(self.root, self.settings.workers.name)
            self._locks.enter_context(lock)
            self._files = InstanceFiles(self.root, self.name, self.settings.receive.keep_cached)
            audit = f"audit-{self.name}.jsonl"
        self._files.prepare()
        self._database = open_database(address)
        self.index = StudyIndex(self._database, receiver=self.name if shared else None)
        self.story = StudyTimeline(self._database)
        self.ledger = JobLedger(self._database)
        self._audit = AuditTrail(self.root / audit, rotation=_rotation(self.settings.retention))
        self.metrics = Metrics()
        telemetry = open_telemetry(self.settings.telemetry, self.name)
        self._locks.callback(telemetry.close)
        observer = Observer(self.metrics, self._audit, self.index.transferred, telemetry)
        for association in self.index.release_all_associations():
            observer.instances_transferred(association)
        routing = self.settings.routing
        patience = self.settings.delivery
        reports = SharedCommitmentReports(self._database) if shared else CommitmentReports()
        self._conditions = DestinationConditions(routing.destinations)
        worker = JobWorker(
            self.root,
            self.index,
            self.ledger,
            self._assistant,
            {name: open_destination(d, self.root, patience, reports) for name, d in routing.destinations.items()},
            patience,
            self._on_change,
            observer,
            self._conditions,
            routing.routes,
            self.settings.jobs.reading_ahead_megabytes * 1_000_000,
            memory_of_a_job(self.settings.jobs.memory_megabytes, self.settings.jobs.concurrency),
            self.settings.jobs.maximum_attempts,
        )
        jobs = self.root / "jobs.sqlite" if isinstance(address, Path) else address
        engine = JobEngine(jobs, worker, self.settings.jobs, routing.destinations, self.name, self._end_process)
        engine.start()
        self._engine = engine
        if self._receives:
            self._retention = self._prepare_retention(Removals(self._database), observer, engine)
        roll = WorkerRegistry(self._database) if shared else None
        if roll is not None:
            roll.enter(self.name, self._receives)
        else:
            self._submit([job.job_id for job in self.ledger.unfinished()])

        def on_lost(name: str) -> None:
            for association in self.index.release_all_associations(name):
                observer.instances_transferred(association)

        def on_expected(expected: Sequence[JobRow]) -> None:
            if expected:
                engine.expect_job()
            worker.read_ahead(expected)

        def on_look() -> None:
            self.index.release_the_rest()
            observer.tell_the_rest()

        self._upkeep = Heartbeat(self.settings.workers, self.name, roll, self.ledger, engine, on_lost, on_look)
        self._upkeep.start()
        orders = PullOrders(self._database) if self.settings.sources else None
        if orders is not None and self._receives and not shared:
            orders.take_up_again()
        self._watch = StudyWatch(
            self.index,
            self.settings.completion.rules,
            routing.routes,
            lambda: self._assistant.identity.weights_sha256,
            self._submit,
            self._on_change,
            overdue_seconds=0.0 if self._receives else self.settings.workers.lost_seconds,
            skipped_modalities=self.settings.receive.skipped_modalities,
            on_complete=observer.study_completed,
            is_awaited=orders.is_pulling if orders is not None else lambda study_uid: False,
            # Where several processes share a database, another one may do the job.
            on_expected=None if shared else on_expected,
        )
        self._watch.start()
        self._control = JobControl(self._database)
        self.operating = OperatorActions(
            self._control,
            self.ledger,
            self.index,
            self._submit,
            engine.cancel,
            lambda job_id: bool(worker.result_files(job_id)),
            routing.destinations,
            observer,
            self._on_operated,
            FindingMarks(self._database),
            lambda job_id: answers_of(self.root, job_id),
        )
        if self._receives:
            inside = Inside(
                root=self.root,
                files=self._files,
                database=self._database,
                index=self.index,
                story=self.story,
                ledger=self.ledger,
                control=self._control,
                operating=self.operating,
                watch=self._watch,
                engine=engine,
                observer=observer,
                metrics=self.metrics,
                conditions=self._conditions,
                reports=reports,
                orders=orders,
                health=self.health,
                attention=self.attention,
            )
            self._listening = Listening(self.settings, inside)
            self._start_retention(self._listening.intake.forget_count)
            self._listening.start()
        observer.started(version=version("rcmed"), worker=self.name)
        self._observer = observer

    def stop(self) -> None:
        """Stop listening and working; everything goes on at the next start."""
        if self._listening is not None:
            self._listening.stop()
        if self._retention is not None:
            self._retention.stop()
        if self._watch is not None:
            self._watch.stop()
        if isinstance(self._assistant, LoadingAssistant):
            self._assistant.stop()
        if self._engine is not None:
            self._engine.stop()
        if self._upkeep is not None:
            self._upkeep.stop()
        if self._observer is not None:
            self._observer.stopped()
        if self._audit is not None:
            self._audit.close()
        if self._database is not None:
            self._database.close()
        self._locks.close()
        self._listening = self._watch = self._engine = self._database = self._upkeep = None
        self._observer = self._audit = self._retention = None

    def __enter__(self) -> Gateway:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def health(self) -> dict[str, str]:
        """Name of a part -> "ok", or what is wrong with it."""
        parts = {"receive": "not listening"} if self._receives else {}
        if self._listening is not None:
            parts |= self._listening.health()
        parts["upkeep"] = self._upkeep.health() if self._upkeep is not None else "not running"
        parts["completion"] = self._watch.health() if self._watch is not None else "not running"
        if isinstance(self._assistant, LoadingAssistant):
            parts["model"] = self._assistant.health()
        if self._retention is not None and self.settings.retention.deletes:
            parts["retention"] = self._retention.health()
        free, least = self._files.free_megabytes(), self.settings.receive.minimum_free_megabytes
        parts["disk"] = "ok" if free >= least else f"{free:.0f} MB free, {least} needed"
        try:
            self.ledger.count(JobState.QUEUED)
            parts["index"] = "ok"
        except DBAPIError as error:
            parts["index"] = str(error.orig)
        return parts

    def attention(self) -> dict[str, str]:
        """What an operator should look at though this process is sound: destinations, what failed, the model."""
        told = {
            f"destination {name}": f"suspended after {condition.failures} failed attempts: {condition.text}"
            for name, condition in self._conditions.all().items()
            if condition.is_suspended
        }
        try:
            dead = sum(self._control.dead_letter_counts().values())
        except DBAPIError:  # the part `index` says why
            dead = 0
        if dead:
            told["failed"] = f"{dead} jobs or deliveries failed for good: see /failed"
        if isinstance(self._assistant, LoadingAssistant) and not self._assistant.is_loaded:
            told["model"] = "not in memory: it is being loaded, or waits for the first job"
        return told

    def _prepare_retention(self, removals: Removals, observer: Observer, engine: JobEngine) -> Retention:
        """Bring what it began to its end, before anything new comes, even where nothing more is to be deleted."""
        retention = Retention(
            self.settings.retention,
            self._files,
            self.index,
            removals,
            observer,
            lambda job_id: job_folder(Path(), job_id),
            engine.forget,
            may_look=self._turn.is_ours,
        )
        retention.recover()
        return retention

    def _start_retention(self, on_removed: Callable[[str], None]) -> None:
        retention = self._retention
        if retention is not None and self.settings.retention.deletes:
            retention.start(on_removed)
            text = "Finished studies that are kept because a job failed or a result was not delivered."
            self.metrics.show("rcmed_studies_kept", text, (), lambda: {(): retention.kept_count()})

    # waiting

    def is_idle(self) -> bool:
        """Whether every study is complete and every job is at its end."""
        return not self.index.open_studies() and not self.ledger.has_unfinished()

    def wait_until_idle(self, seconds: float) -> bool:
        """Wait until nothing is open; False when `seconds` passed before."""
        return self._wait(self.is_idle, seconds)

    def wait_for_study(self, study_uid: str, seconds: float) -> list[JobRow]:
        """Wait until a study was received, is complete and its jobs are at their end; returns the jobs.

        Raises:
            TimeoutError: it is not so after `seconds`.
        """

        def is_done() -> bool:
            study = self.index.study(study_uid)
            if study is None or study.is_open:
                return False
            return all(job.state in FINAL_JOB_STATES for job in self.ledger.jobs(study_uid))

        if not self._wait(is_done, seconds):
            raise TimeoutError(f"study {study_uid} is not finished after {seconds:g} s")
        return self.ledger.jobs(study_uid)

    def _wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        with self._changed:
            while not condition():
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(min(left, 1.0))
        return True

    # inside

    def _submit(self, job_ids: Sequence[str]) -> None:
        assert self._engine is not None
        for job_id in job_ids:
            self._engine.submit(job_id)
        self.ledger.submitted(job_ids)

    def _on_operated(self) -> None:
        if self._watch is not None:
            self._watch.wake()
        self._on_change()

    def _on_change(self) -> None:
        with self._changed:
            self._changed.notify_all()


def _rotation(settings: RetentionSettings) -> Rotation:
    megabytes, days = settings.audit_megabytes, settings.audit_days
    return Rotation(
        bytes=None if megabytes is None else round(megabytes * 1e6), seconds=None if days is None else days * 86_400.0
    )
