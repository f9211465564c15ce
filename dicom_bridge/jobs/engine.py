"""The engine that runs jobs durably: DBOS in this process, its queues, and what may be done to what is in them."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer, SetEnqueueOptions, SetWorkflowID
from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError

from dicom_bridge.jobs.steps import JobStep
from dicom_bridge.jobs.time_limit import TimeLimit, end_process
from dicom_bridge.jobs.worker import JobWorker
from dicom_bridge.jobs.workflow import (
    JOBS,
    WORKFLOW_VERSION,
    StepResources,
    delivery_queue,
    enqueue_delivery,
    provide,
    run_job,
    running_jobs,
    running_workflows,
    withdraw,
    workflow_id,
)
from dicom_bridge.settings import JobSettings
from dicom_bridge.store.tables import DeliveryRow, JobRow

_LOG = logging.getLogger(__name__)
_ENDED = ("SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")
_WRITING_SECONDS = 20.0
_POOL_SIZE = 10
_POSTGRESQL = {"pool_pre_ping": True, "connect_args": {"connect_timeout": 10, "application_name": "rcmed-jobs"}}


class JobEngine:
    """Runs jobs durably. One at a time in a process, as DBOS is."""

    def __init__(
        self,
        database: Path | URL,
        worker: JobWorker,
        settings: JobSettings,
        destinations: Iterable[str],
        name: str = "gateway",
        end_process: Callable[[], None] = end_process,
    ) -> None:
        """Prepare.

        Args:
            database: SQLite file of DBOS, created where missing, or a PostgreSQL database, in which it has a schema.
            worker: does the steps.
            settings: concurrency and polling.
            destinations: names; each gets a queue.
            name: of this process among those that share the database; what it began goes on when it starts again.
            end_process: ends this process at once, from whichever thread: a job is stuck, and its end is written.
        """
        self._database = database
        self._worker = worker
        self._settings = settings
        self._destinations = tuple(destinations)
        self._name = name
        self._end_process = end_process
        self._strays: set[str] = set()
        self._time_limit = TimeLimit(settings.time_limit_seconds, self._end_stuck)

    def start(self) -> None:
        """Start; what an earlier run left pending goes on.

        Raises:
            RuntimeError: an engine runs in this process already.
        """
        if isinstance(self._database, Path):
            with sqlite3.connect(self._database) as connection:
                connection.execute("PRAGMA journal_mode = WAL")  # stays with the file; DBOS sets the busy timeout
            connection.close()
            address = f"sqlite:///{self._database.resolve()}"
        else:
            address = self._database.render_as_string(hide_password=False)
        provide(StepResources(self._worker, self._time_limit))
        config: DBOSConfig = {
            "name": "rcmed-gateway",
            "system_database_url": address,
            "serializer": DBOSPortableJSONSerializer(),
            "application_version": WORKFLOW_VERSION,
            "executor_id": self._name,
            "log_level": "WARNING",
        }
        if isinstance(self._database, URL):
            config |= {"sys_db_pool_size": _POOL_SIZE, "db_engine_kwargs": _POSTGRESQL}
        try:
            DBOS(config=config)
            DBOS.launch()
            self._register(JOBS, self._settings.concurrency, self._settings.global_concurrency)
            for destination in self._destinations:
                self._register(delivery_queue(destination), 1)
        except BaseException:
            self.stop()
            raise

    def submit(self, job_id: str) -> None:
        """Put a job, or its deliveries that are to be made, into the queues; what is there is not put there again."""
        submission = self._worker.submission(job_id)
        with SetWorkflowID(workflow_id(job_id, submission.drive)):
            with SetEnqueueOptions(priority=submission.priority.rank):
                DBOS.enqueue_workflow(JOBS, run_job, job_id)
        if submission.deliveries:
            files = self._worker.answers.result_files(job_id)
            for destination, drive in submission.deliveries.items():
                enqueue_delivery(job_id, destination, drive, submission.priority, files)

    def cancel(self, job: JobRow, deliveries: Sequence[DeliveryRow]) -> None:
        """Take a job and its deliveries out of the queues; of what runs, the step in progress is the last one."""
        names = [workflow_id(f"{row.job_id}:{row.destination}", row.drive) for row in deliveries]
        DBOS.cancel_workflows([workflow_id(job.job_id, job.drive), *names])
        self._worker.answers.forget(job.job_id)

    def steps(self, job: JobRow) -> list[JobStep]:
        """The finished steps of the latest drive of a job, in their order."""
        finished = DBOS.list_workflow_steps(workflow_id(job.job_id, job.drive), load_output=False)
        return [
            JobStep(step["function_name"], begun / 1000, ended / 1000)
            for step in finished
            if (begun := step["started_at_epoch_ms"]) is not None
            and (ended := step["completed_at_epoch_ms"]) is not None
            and step["child_workflow_id"] is None
        ]

    def recover(self, name: str) -> int:
        """Put what a lost process had begun back into the queues; returns how much that was.

        What it had begun is its no more: when it was only paused, the engine drops what it brings later.
        """
        return len(DBOS._recover_pending_workflows([name]))

    def recover_strays(self) -> int:
        """Put back what this process took and never began; returns how much that was.

        A workflow is taken by a commit. When the connection breaks just then, the database has it and this process
        does not know. What is found twice in a row is such a one, and not one about to begin.
        """
        taken = DBOS.list_workflows(status="PENDING", executor_id=self._name, load_input=False, load_output=False)
        running = running_workflows()
        strays = {one.workflow_id: one.queue_name for one in taken if one.workflow_id not in running}
        found = [workflow for workflow in strays if workflow in self._strays]
        for workflow in found:
            _LOG.warning("workflow %s was taken and not begun; it is queued again", workflow)
            DBOS.resume_workflow(workflow, queue_name=strays[workflow])
        self._strays = set(strays) - set(found)
        return len(found)

    def forget(self, job_id: str) -> bool:
        """Forget that a job ever ran, so that it can be submitted again; False while any part of it is unfinished."""
        workflows = DBOS.list_workflows(workflow_id_prefix=job_id, load_input=False, load_output=False)
        if any(workflow.status not in _ENDED for workflow in workflows):
            return False
        if workflows:
            DBOS.delete_workflows([workflow.workflow_id for workflow in workflows])
        return True

    def stop(self) -> None:
        """Stop; what was not finished goes on after the next start."""
        self._worker.stop()
        self._time_limit.stop()
        running = running_jobs()
        DBOS.destroy()
        if running:
            with suppress(DBAPIError):  # then it counts, which does no harm by itself
                self._worker.let_go(running)
        withdraw()

    def _end_stuck(self, job_id: str) -> None:
        """Write the end of a job that is stuck, and end the process; the others go on after its next start."""

        def write() -> None:
            try:
                self._worker.overran(job_id, self._settings.time_limit_seconds)
                self._worker.let_go(running_jobs() - {job_id})
            except DBAPIError as error:
                _LOG.error("the end of job %s can't be written: %s", job_id, error.orig)

        writing = threading.Thread(target=write, daemon=True)
        writing.start()
        writing.join(_WRITING_SECONDS)  # where a database does not answer, the attempts of the job are counted
        self._end_process()

    def _register(self, name: str, concurrency: int, global_concurrency: int | None = None) -> None:
        DBOS.register_queue(
            name,
            worker_concurrency=concurrency,
            global_concurrency=global_concurrency,
            polling_interval_sec=self._settings.polling_seconds,
            on_conflict="always_update",
        )
