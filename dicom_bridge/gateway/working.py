"""What a process does with jobs: their steps, the engine that runs them, and the jobs that others left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from dicom_bridge.delivery import open_destination
from dicom_bridge.delivery.condition import DestinationConditions
from dicom_bridge.gateway.state import OpenState
from dicom_bridge.jobs.answer_writer import AnswerWriter, FindsInImages
from dicom_bridge.jobs.engine import JobEngine
from dicom_bridge.jobs.memory import memory_of_a_job
from dicom_bridge.jobs.worker import JobWorker
from dicom_bridge.jobs.worker_registry import WorkerRegistry
from dicom_bridge.operations.heartbeat import Heartbeat
from dicom_bridge.settings import GatewaySettings


class Working:
    """The jobs of one process."""

    def __init__(
        self,
        settings: GatewaySettings,
        root: Path,
        state: OpenState,
        assistant: FindsInImages,
        conditions: DestinationConditions,
        on_change: Callable[[], None],
        end_process: Callable[[], None],
    ) -> None:
        """Prepare; nothing is begun before `start`.

        Args:
            settings: of everything.
            root: the state folder.
            state: as it is open.
            assistant: finds.
            conditions: of the destinations, kept up to date.
            on_change: called when a job's or a delivery's state changed.
            end_process: ends the process at once because a job is stuck.
        """
        routing, jobs, patience = settings.routing, settings.jobs, settings.delivery
        self._state = state
        self.answers = AnswerWriter(
            root,
            state.index,
            state.ledger,
            assistant,
            routing.routes,
            state.observer,
            jobs.reading_ahead_megabytes * 1_000_000,
            memory_of_a_job(jobs.memory_megabytes, jobs.concurrency),
        )
        worker = JobWorker(
            state.index,
            state.ledger,
            self.answers,
            {name: open_destination(d, root, patience, state.reports) for name, d in routing.destinations.items()},
            patience,
            on_change,
            state.observer,
            conditions,
            jobs.maximum_attempts,
        )
        self.engine = JobEngine(state.jobs, worker, jobs, routing.destinations, state.name, end_process)
        self._registry = WorkerRegistry(state.database) if state.is_shared else None
        self._heartbeat = Heartbeat(
            settings.workers, state.name, self._registry, state.ledger, self.engine, self._on_lost, self._on_look
        )

    def start(self) -> None:
        """Start the engine; what an earlier run began goes on.

        Raises:
            RuntimeError: an engine runs in this process already.
        """
        self.engine.start()

    def take_up(self, receives: bool) -> None:
        """Take up the jobs that are not in the engine's queues, and from now on those that lost processes leave.

        Args:
            receives: whether this process receives, as the others are to know.
        """
        if self._registry is not None:
            self._registry.enter(self._state.name, receives)
        else:
            self.submit([job.job_id for job in self._state.ledger.unfinished()])
        self._heartbeat.start()

    def submit(self, job_ids: Sequence[str]) -> None:
        """Put jobs that are written down into the engine's queues."""
        for job_id in job_ids:
            self.engine.submit(job_id)
        self._state.ledger.submitted(job_ids)

    def stop(self) -> None:
        """Stop; what was not finished goes on after the next start."""
        self.engine.stop()
        self._heartbeat.stop()

    def health(self) -> str:
        """ "ok", or what hinders it from saying that it lives."""
        return self._heartbeat.health()

    def _on_lost(self, name: str) -> None:
        for association in self._state.index.release_all_associations(name):
            self._state.observer.instances_transferred(association)

    def _on_look(self) -> None:
        self._state.index.release_the_rest()
        self._state.observer.tell_the_rest()
