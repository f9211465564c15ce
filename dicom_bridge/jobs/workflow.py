"""The durable workflow: read -> find -> results -> deliver, on DBOS over SQLite or PostgreSQL.

DBOS records which steps of which workflow are finished. After a crash a finished step is never done again and an
interrupted one is, so each step is idempotent (`JobWorker`). Only ids and relative paths are recorded, as JSON: DBOS'
default serializer pickles. Each destination has a queue of its own: while one is sick, its first delivery waits and
tries again and the others wait behind it, and no other destination is held up.
"""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from dbos import DBOS, SetEnqueueOptions, SetWorkflowID
from dbos import error as dbos_error
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from dicom_bridge.jobs.time_limit import TimeLimit
from dicom_bridge.jobs.worker import GatewayStoppingError, JobWorker
from dicom_bridge.store.states import JobState
from dicom_bridge.studies.priority import Priority

_LOG = logging.getLogger(__name__)
# DBOS writes past the log, to what is standard error when it is imported, unless its logger has a handler.
logging.getLogger("dbos").handlers[:] = [logging.NullHandler()]
logging.getLogger("dbos").propagate = True

JOBS = "jobs"
"""The queue of the jobs."""

# DBOS takes up pending workflows of the same application version only, and by default computes it from the source of
# the workflows: an update of the gateway would strand them. Count this up when a workflow's steps change their order.
WORKFLOW_VERSION = "1"

_FIRST_WAIT_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 10.0
# A full disk, and what a shared file system tells while its server is away.
_AWAY = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.EHOSTDOWN, errno.ETIMEDOUT)

T = TypeVar("T")

_running: dict[str, int] = {}
_running_lock = threading.Lock()


@dataclass(frozen=True)
class StepResources:
    """What the steps work with."""

    worker: JobWorker
    time_limit: TimeLimit


# DBOS is one per process, and what is durable can't carry objects: the steps find theirs here.
_resources: StepResources | None = None


def provide(resources: StepResources) -> None:
    """Give the steps of this process what they work with.

    Raises:
        RuntimeError: they have it already: an engine runs in this process.
    """
    global _resources
    if _resources is not None:
        raise RuntimeError("a job engine runs in this process already")
    _resources = resources


def withdraw() -> None:
    """No step runs any more; another engine may provide."""
    global _resources
    _resources = None


def _provided() -> StepResources:
    if _resources is None:
        raise RuntimeError("no job engine runs in this process")
    return _resources


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
    resources = _provided()
    worker = resources.worker
    wait = _FIRST_WAIT_SECONDS
    while True:
        try:
            if timed is None:
                return step(worker)
            with resources.time_limit.working(timed):
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
    return _do(lambda worker: worker.read(job_id), timed=job_id)


@DBOS.step(name="find", retries_allowed=True, max_attempts=5, should_retry=_is_passing)
def _find(job_id: str, number: int) -> list[str]:
    _do(lambda worker: worker.await_assistant(job_id))
    return _do(lambda worker: worker.answers.find(job_id, number), timed=job_id)


@DBOS.step(name="results", retries_allowed=True, max_attempts=5, should_retry=_is_passing)
def _results(job_id: str) -> list[str]:
    return _do(lambda worker: worker.answers.build_results(job_id), timed=job_id)


@DBOS.step(name="hand over")
def _hand_over(job_id: str) -> list[str]:
    return _do(lambda worker: worker.hand_over(job_id))


@DBOS.step(name="finish")
def _finish(job_id: str, state: str, error: str | None) -> None:
    _do(lambda worker: worker.finish(job_id, JobState(state), error))


@DBOS.step(name="attempt delivery")
def _attempt_delivery(job_id: str, destination: str, files: list[str], attempt: int) -> bool:
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
def run_job(job_id: str) -> str:
    """Do a job, or go on with it; returns its state."""
    with _counted():
        # No step: it is done each time that the workflow is begun, and what was done before is not to be looked up.
        end = _do(lambda worker: worker.begin(job_id))
        if end is not None:
            return end
        try:
            return _steps_of_job(job_id)
        finally:
            if _resources is not None:
                _resources.time_limit.forget(job_id)


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
        _provided().worker.answers.forget(job_id)
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
        enqueue_delivery(job_id, destination, drives[destination], priority, files)
    return JobState.DELIVERING


@DBOS.workflow(name="deliver", max_recovery_attempts=1000)
def deliver(job_id: str, destination: str, files: list[str]) -> int:
    """Deliver a job's files; returns the number of attempts."""
    with _counted():
        attempt = 1
        while not _attempt_delivery(job_id, destination, files, attempt):
            attempt += 1
        return attempt


def running_workflows() -> set[str]:
    """Ids of the workflows that are worked on in this process."""
    with _running_lock:
        return set(_running)


def running_jobs() -> set[str]:
    """Ids of the jobs that are worked on in this process; deliveries have a colon."""
    return {workflow.partition("#")[0] for workflow in running_workflows() if ":" not in workflow}


def enqueue_delivery(job_id: str, destination: str, drive: int, priority: Priority, files: list[str]) -> None:
    """Put a delivery into its destination's queue; one that is there is not put there again."""
    workflow = workflow_id(f"{job_id}:{destination}", drive)
    with SetWorkflowID(workflow), SetEnqueueOptions(priority=priority.rank):
        DBOS.enqueue_workflow(delivery_queue(destination), deliver, job_id, destination, files)


def workflow_id(name: str, drive: int) -> str:
    """The engine never does a finished workflow again: each further drive of a job or delivery is one of its own."""
    return name if drive == 1 else f"{name}#{drive}"


def delivery_queue(destination: str) -> str:
    """The queue of a destination."""
    return f"deliver-{destination}"
