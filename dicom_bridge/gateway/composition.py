"""The gateway: wires the rooms. A study goes in by C-STORE, findings come out as SEG and SR."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import TracebackType

from sqlalchemy.exc import DBAPIError

from dicom_bridge.delivery.condition import DestinationConditions
from dicom_bridge.events.metrics import Metrics
from dicom_bridge.events.sink import Observer
from dicom_bridge.gateway.listening import Inside, Listening
from dicom_bridge.gateway.state import ALONE, OpenState, open_state
from dicom_bridge.gateway.study_watch import StudyWatch
from dicom_bridge.gateway.working import Working
from dicom_bridge.ingest.pull.orders import PullOrders
from dicom_bridge.jobs.answer_writer import FindsInImages, job_folder
from dicom_bridge.jobs.answers import answers_of
from dicom_bridge.jobs.control import JobControl
from dicom_bridge.jobs.ledger import JobLedger
from dicom_bridge.jobs.loading import LoadingAssistant
from dicom_bridge.jobs.time_limit import end_process
from dicom_bridge.operations.operator_actions import OperatorActions
from dicom_bridge.operations.retention import Retention
from dicom_bridge.settings import GatewaySettings
from dicom_bridge.store.files.folder_lock import Turn
from dicom_bridge.store.files.instance_files import InstanceFiles
from dicom_bridge.store.index import StudyIndex
from dicom_bridge.store.marks import FindingMarks
from dicom_bridge.store.removals import Removals
from dicom_bridge.store.states import FINAL_JOB_STATES, JobState
from dicom_bridge.store.tables import JobRow
from dicom_bridge.store.timeline import StudyTimeline

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
        self._held = ExitStack()
        self._turn = Turn(self.root, "retention")
        self._listening: Listening | None = None
        self._working: Working | None = None
        self._retention: Retention | None = None
        self._observer: Observer | None = None
        self.metrics: Metrics
        self._conditions: DestinationConditions
        self._watch: StudyWatch | None = None
        self.operating: OperatorActions
        self._files = InstanceFiles(self.root, keeps_cached=settings.receive.keep_cached)
        self.name = ALONE
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
        self._held.callback(self._turn.end)
        state = open_state(self.settings, self.root, self._receives, self._held)
        self.name, self._files, self.metrics = state.name, state.files, state.metrics
        self.index, self.story, self.ledger = state.index, state.timeline, state.ledger
        self._conditions = DestinationConditions(self.settings.routing.destinations)
        working = Working(
            self.settings, self.root, state, self._assistant, self._conditions, self._on_change, self._end_process
        )
        working.start()
        self._working = working
        if self._receives:
            self._retention = self._prepare_retention(state, working)
        working.take_up(self._receives)
        orders = self._take_up_orders(state)
        self._watch = self._start_watch(state, working, orders)
        self._control = JobControl(state.database)
        self.operating = self._operator_actions(state, working)
        if self._receives:
            self._listening = self._prepare_listening(state, working, self._watch, orders)
            self._start_retention(self._listening.intake.forget_count)
            self._listening.start()
        state.observer.started(version=version("rcmed"), worker=self.name)
        self._observer = state.observer

    def _prepare_retention(self, state: OpenState, working: Working) -> Retention:
        """Bring what it began to its end, before anything new comes, even where nothing more is to be deleted."""
        retention = Retention(
            self.settings.retention,
            state.files,
            state.index,
            Removals(state.database),
            state.observer,
            lambda job_id: job_folder(Path(), job_id),
            working.engine.forget,
            may_look=self._turn.is_ours,
        )
        retention.recover()
        return retention

    def _take_up_orders(self, state: OpenState) -> PullOrders | None:
        """The orders of studies to fetch; those that an earlier run began are begun anew."""
        if not self.settings.sources:
            return None
        orders = PullOrders(state.database)
        if self._receives and not state.is_shared:
            orders.take_up_again()
        return orders

    def _start_watch(self, state: OpenState, working: Working, orders: PullOrders | None) -> StudyWatch:
        watch = StudyWatch(
            state.index,
            self.settings.completion.rules,
            self.settings.routing.routes,
            lambda: self._assistant.identity.weights_sha256,
            working.submit,
            self._on_change,
            overdue_seconds=0.0 if self._receives else self.settings.workers.lost_seconds,
            skipped_modalities=self.settings.receive.skipped_modalities,
            on_complete=state.observer.study_completed,
            is_awaited=orders.is_pulling if orders is not None else lambda study_uid: False,
            # Where several processes share a database, another one may do the job.
            on_expected=None if state.is_shared else working.answers.read_ahead,
        )
        watch.start()
        return watch

    def _operator_actions(self, state: OpenState, working: Working) -> OperatorActions:
        return OperatorActions(
            self._control,
            self.ledger,
            self.index,
            working.submit,
            working.engine.cancel,
            lambda job_id: bool(working.answers.result_files(job_id)),
            self.settings.routing.destinations,
            state.observer,
            self._on_operated,
            FindingMarks(state.database),
            lambda job_id: answers_of(self.root, job_id),
        )

    def _prepare_listening(
        self, state: OpenState, working: Working, watch: StudyWatch, orders: PullOrders | None
    ) -> Listening:
        inside = Inside(
            root=self.root,
            files=state.files,
            database=state.database,
            index=state.index,
            story=state.timeline,
            ledger=state.ledger,
            control=self._control,
            operating=self.operating,
            watch=watch,
            engine=working.engine,
            observer=state.observer,
            metrics=state.metrics,
            conditions=self._conditions,
            reports=state.reports,
            orders=orders,
            health=self.health,
            attention=self.attention,
        )
        return Listening(self.settings, inside)

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
        if self._working is not None:
            self._working.stop()
        if self._observer is not None:
            self._observer.stopped()
        self._held.close()
        self._listening = self._watch = self._working = self._observer = self._retention = None

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
        parts["upkeep"] = self._working.health() if self._working is not None else "not running"
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

    def _on_operated(self) -> None:
        if self._watch is not None:
            self._watch.wake()
        self._on_change()

    def _on_change(self) -> None:
        with self._changed:
            self._changed.notify_all()
