"""The durable workflow: read -> find -> results -> deliver, on DBOS over SQLite or PostgreSQL.

DBOS records which steps of which workflow are finished. After a crash a finished step is never done again and an
interrupted one is, so each step is idempotent (`JobWorker`). Only ids and relative paths are recorded, as JSON: DBOS'
default serializer pickles. Each destination has a queue of its own: while one is sick, its first delivery waits and
tries again and the others wait behind it, and no other destination is held up.
"""

from __future__ import annotations

import errno
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TypeVar

from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer, SetEnqueueOptions, SetWorkflowID
from dbos import error as dbos_error
from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from dicom_bridge.jobs.pace import QueuePace
from dicom_bridge.jobs.steps import JobStep
from dicom_bridge.jobs.time_limit import TimeLimit, end_process
from dicom_bridge.jobs.worker import GatewayStoppingError, JobWorker
from dicom_bridge.settings import JobSettings
from dicom_bridge.store.states import JobState
from dicom_bridge.store.tables import DeliveryRow, JobRow
from dicom_bridge.studies.priority import Priority

_LOG = logging.getLogger(__name__)
# DBOS writes past the log, to what is standard error when it is imported, unless its logger has a handler.
logging.getLogger("dbos").handlers[:] = [logging.NullHandler()]
logging.getLogger("dbos").propagate = True
_JOBS = "jobs"
_ENDED = ("SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")

# DBOS takes up pending workflows of the same application version only, and by default computes it from the source of
# the workflows: an update of the gateway would strand them. Count this up when a workflow's steps change their order.
_WORKFLOW_VERSION = "1"

_FIRST_WAIT_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 10.0
# A full disk, and what a shared file system tells while its server is away.
_AWAY = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.EHOSTDOWN, errno.ETIMEDOUT)
_WRITING_SECONDS = 20.0
_POOL_SIZE = 10
_POSTGRESQL = {"pool_pre_ping": True, "connect_args": {"connect_timeout": 10, "application_name": "rcmed-jobs"}}

T = TypeVar("T")

_running: dict[str, int] = {}
_running_lock = threading.Lock()

# DBOS is one per process, and what is durable can't carry objects: the steps find the worker here.
_worker: JobWorker | None = None
_time_limit: TimeLimit | None = None
_pace = QueuePace(0.0)


def _the_worker() -> JobWorker:
    if _worker is None:
        raise RuntimeError("no job engine runs in this process")
    return _worker


def _is_passing(error: BaseException) -> bool:
    """A locked file may mend itself; anything else would fail again."""
    return isinstance(error, OSError)


def _do(step: Callable[[JobWorker], T], timed: str | None = None) -> T:
    """Let the worker do something, again and again while the database, the disk or the shared folder is away.

    Every step can be done again as a whole. A step that raised instead would end its workflow, and with it a job that
    nobody would ever finish.

    Args:
        step: what is done.
        timed: id of the job whose time it takes; None: nobody's.
    """
    worker = _the_worker()
    wait = _FIRST_WAIT_SECONDS
    while True:
        try:
            with _time_limit.working(timed) if timed is not None and _time_limit is not None else nullcontext():
                return step(worker)
        except (DBAPIError, OSError) as error:
            if not _is_away(error):
                raise
            reason = error.orig if isinstance(error, DBAPIError) else error
            _LOG.warning("a step waits for %g s: %s", wait, str(reason).strip().partition("\n")[0])
        if worker.stopping.wait(wait):
            raise GatewayStoppingError
        wait = min(2 * wait, _LONGEST_WAIT_SECONDS)


def _is_away(error: DBAPIError | OSError) -> bool:
    if isinstance(error, OSError):
        return error.errno in _AWAY
    return error.connection_invalidated or isinstance(error, (OperationalError, InterfaceError))


@DBOS.step(name="read", retries_allowed=True, max_attempts=5, should_retry=_is_passing)
def _read(job_id: str) -> int:
    _pace.rest(_JOBS)
    return _do(lambda worker: worker.read(job_id), timed=job_id)


@DBOS.step(name="find", retries_allowed=True, max_attempts=5, should_retry=_is_passing)
def _find(job_id: str, number: int) -> list[str]:
    _do(lambda worker: worker.await_assistant(job_id))
    return _do(lambda worker: worker.find(job_id, number), timed=job_id)


@DBOS.step(name="results", retries_allowed=True, max_attempts=5, should_retry=_is_passing)
def _results(job_id: str) -> list[str]:
    for destination in _do(lambda worker: worker.destinations_of(job_id)):
        _pace.hasten(_delivery_queue(destination))
    return _do(lambda worker: worker.build_results(job_id), timed=job_id)


@DBOS.step(name="hand over")
def _hand_over(job_id: str) -> list[str]:
    return _do(lambda worker: worker.hand_over(job_id))


@DBOS.step(name="finish")
def _finish(job_id: str, state: str, error: str | None) -> None:
    _do(lambda worker: worker.finish(job_id, JobState(state), error))


@DBOS.step(name="attempt delivery")
def _attempt_delivery(job_id: str, destination: str, files: list[str], attempt: int) -> bool:
    _pace.rest(_delivery_queue(destination))
    return _do(lambda worker: worker.attempt_delivery(job_id, destination, files, attempt))


@contextmanager
def _counted() -> Iterator[None]:
    """While the calling workflow runs in this process."""
    workflow_id = DBOS.workflow_id
    assert workflow_id is not None
    with _running_lock:
        _running[workflow_id] = _running.get(workflow_id, 0) + 1
    try:
        yield
    finally:
        with _running_lock:
            _running[workflow_id] -= 1
            if not _running[workflow_id]:
                del _running[workflow_id]


# The engine counts restarts in good order, too; what killed the process is counted by `JobWorker.begin`.
@DBOS.workflow(name="job", max_recovery_attempts=1000)
def _run_job(job_id: str) -> str:
    with _counted():
        # No step: it is done each time that the workflow is begun, and what was done before is not to be looked up.
        end = _do(lambda worker: worker.begin(job_id))
        if end is not None:
            return end
        try:
            return _steps_of_job(job_id)
        finally:
            if _time_limit is not None:
                _time_limit.forget(job_id)


def _steps_of_job(job_id: str) -> str:
    try:
        images = _read(job_id)
        if images == 0:
            _finish(job_id, JobState.REFUSED, None)
            return JobState.REFUSED
        for number in range(images):
            _find(job_id, number)
        files = _results(job_id)
    except dbos_error.DBOSWorkflowCancelledError:
        _the_worker().forget(job_id)
        raise
    except Exception as error:
        _LOG.exception("job %s failed", job_id)
        _finish(job_id, JobState.FAILED, f"the job failed, a fault of ours: {type(error).__name__}: {error}")
        return JobState.FAILED
    if not files:
        _finish(job_id, JobState.REFUSED, None)
        return JobState.REFUSED
    destinations = _hand_over(job_id)
    priority = _do(lambda worker: worker.submission(job_id)).priority
    drives = {name: _do(lambda worker, name=name: worker.delivery_drive(job_id, name)) for name in destinations}  # type: ignore[misc]
    for destination in destinations:
        _enqueue_delivery(job_id, destination, drives[destination], priority, files)
    return JobState.DELIVERING


@DBOS.workflow(name="deliver", max_recovery_attempts=1000)
def _deliver(job_id: str, destination: str, files: list[str]) -> int:
    with _counted():
        attempt = 1
        while not _attempt_delivery(job_id, destination, files, attempt):
            attempt += 1
        return attempt


def _running_jobs() -> set[str]:
    """Ids of the jobs that are worked on in this process; deliveries have a colon."""
    with _running_lock:
        return {workflow.partition("#")[0] for workflow in _running if ":" not in workflow}


def _enqueue_delivery(job_id: str, destination: str, drive: int, priority: Priority, files: list[str]) -> None:
    workflow = _workflow_id(f"{job_id}:{destination}", drive)
    with SetWorkflowID(workflow), SetEnqueueOptions(priority=priority.rank):
        DBOS.enqueue_workflow(_delivery_queue(destination), _deliver, job_id, destination, files)


def _workflow_id(name: str, drive: int) -> str:
    """The engine never does a finished workflow again: each further drive of a job or delivery is one of its own."""
    return name if drive == 1 else f"{name}#{drive}"


def _delivery_queue(destination: str) -> str:
    return f"deliver-{destination}"


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

    def start(self) -> None:
        """Start; what an earlier run left pending goes on.

        Raises:
            RuntimeError: an engine runs in this process already.
        """
        global _worker, _time_limit, _pace
        if _worker is not None:
            raise RuntimeError("a job engine runs in this process already")
        if isinstance(self._database, Path):
            with sqlite3.connect(self._database) as connection:
                connection.execute("PRAGMA journal_mode = WAL")  # stays with the file; DBOS sets the busy timeout
            connection.close()
            address = f"sqlite:///{self._database.resolve()}"
        else:
            address = self._database.render_as_string(hide_password=False)
        _worker = self._worker
        _time_limit = TimeLimit(self._settings.time_limit_seconds, self._end_stuck)
        _pace = QueuePace(self._settings.polling_seconds)
        config: DBOSConfig = {
            "name": "rcmed-gateway",
            "system_database_url": address,
            "serializer": DBOSPortableJSONSerializer(),
            "application_version": _WORKFLOW_VERSION,
            "executor_id": self._name,
            "log_level": "WARNING",
        }
        if isinstance(self._database, URL):
            config |= {"sys_db_pool_size": _POOL_SIZE, "db_engine_kwargs": _POSTGRESQL}
        try:
            DBOS(config=config)
            DBOS.launch()
            self._register(_JOBS, self._settings.concurrency, self._settings.global_concurrency)
            for destination in self._destinations:
                self._register(_delivery_queue(destination), 1)
        except BaseException:
            self.stop()
            raise

    def expect_job(self) -> None:
        """A job is about to be submitted: it shall not wait long for the next look at its queue."""
        _pace.hasten(_JOBS)

    def submit(self, job_id: str) -> None:
        """Put a job, or its deliveries that are to be made, into the queues; what is there is not put there again."""
        submission = self._worker.submission(job_id)
        with SetWorkflowID(_workflow_id(job_id, submission.drive)):
            with SetEnqueueOptions(priority=submission.priority.rank):
                DBOS.enqueue_workflow(_JOBS, _run_job, job_id)
        if submission.deliveries:
            files = self._worker.result_files(job_id)
            for destination, drive in submission.deliveries.items():
                _enqueue_delivery(job_id, destination, drive, submission.priority, files)

    def cancel(self, job: JobRow, deliveries: Sequence[DeliveryRow]) -> None:
        """Take a job and its deliveries out of the queues; of what runs, the step in progress is the last one."""
        names = [_workflow_id(f"{row.job_id}:{row.destination}", row.drive) for row in deliveries]
        DBOS.cancel_workflows([_workflow_id(job.job_id, job.drive), *names])
        self._worker.forget(job.job_id)

    def steps(self, job: JobRow) -> list[JobStep]:
        """The finished steps of the latest drive of a job, in their order."""
        told = DBOS.list_workflow_steps(_workflow_id(job.job_id, job.drive), load_output=False)
        return [
            JobStep(step["function_name"], begun / 1000, ended / 1000)
            for step in told
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
        with _running_lock:
            strays = {one.workflow_id: one.queue_name for one in taken if one.workflow_id not in _running}
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
        global _worker, _time_limit
        self._worker.stop()
        if _time_limit is not None:
            _time_limit.stop()
        _pace.stop()
        running = _running_jobs()
        DBOS.destroy()
        if running:
            with suppress(DBAPIError):  # then it counts, which does no harm by itself
                self._worker.let_go(running)
        _worker = _time_limit = None

    def _end_stuck(self, job_id: str) -> None:
        """Write the end of a job that is stuck, and end the process; the others go on after its next start."""

        def write() -> None:
            try:
                self._worker.overran(job_id, self._settings.time_limit_seconds)
                self._worker.let_go(_running_jobs() - {job_id})
            except DBAPIError as error:
                _LOG.error("the end of job %s can't be written: %s", job_id, error.orig)

        writing = threading.Thread(target=write, daemon=True)
        writing.start()
        writing.join(_WRITING_SECONDS)  # where a database does not answer, the attempts of the job are counted
        self._end_process()

    def _register(self, name: str, concurrency: int, global_concurrency: int | None = None) -> None:
        queue = DBOS.register_queue(
            name,
            worker_concurrency=concurrency,
            global_concurrency=global_concurrency,
            polling_interval_sec=self._settings.polling_seconds,
            on_conflict="always_update",
        )
        if isinstance(self._database, Path):
            # In a shared database it would be every process that looks more often.
            _pace.register(name, queue)
