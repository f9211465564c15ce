"""How long a job may work. What is stuck in a decoder can't be called back: the process is ended for it.

A thread of Python can't be ended from outside, so the thread that watches the clock lets its owner write down what
happened, and then the process starts anew; every other job goes on after that, as after a crash. Where not even this
thread gets its turn, because native code never gives the interpreter back, the process is ended without a word (by a
thread of faulthandler, which needs no turn), and the attempts of the job are counted.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

_LOG = logging.getLogger(__name__)
_GRACE_SECONDS = 60.0
STUCK = 70
"""Exit status of a process that a stuck job ended (EX_SOFTWARE)."""


def end_process() -> None:
    """End this process at once, whatever its threads do."""
    os._exit(STUCK)


class TimeLimit:
    """Watches the time that jobs take; of a job all steps together, but not what it waits."""

    def __init__(self, seconds: float, on_overrun: Callable[[str], None]) -> None:
        """Prepare; the thread starts with the first job.

        Args:
            seconds: that a job may take.
            on_overrun: called once, with the id of a job that took longer; it ends the process.
        """
        self.seconds = seconds
        self._on_overrun = on_overrun
        self._changed = threading.Condition()
        self._spent: dict[str, float] = {}
        self._began: dict[str, float] = {}
        self._is_stopped = False
        self._thread: threading.Thread | None = None

    @contextmanager
    def working(self, job_id: str) -> Iterator[None]:
        """While a job works in the calling thread."""
        with self._changed:
            self._began[job_id] = time.monotonic()
            if self._thread is None and not self._is_stopped:
                self._thread = threading.Thread(target=self._run, name="time-limit", daemon=True)
                self._thread.start()
            self._tell()
        try:
            yield
        finally:
            with self._changed:
                began = self._began.pop(job_id, None)
                if began is not None:
                    self._spent[job_id] = self._spent.get(job_id, 0.0) + time.monotonic() - began
                self._tell()

    def forget(self, job_id: str) -> None:
        """A job is at its end, or begins anew."""
        with self._changed:
            self._spent.pop(job_id, None)

    def stop(self) -> None:
        """Watch nothing any more."""
        with self._changed:
            self._is_stopped = True
            self._began.clear()
            self._tell()

    def _tell(self) -> None:
        """Something begins or ends: look at the clock anew."""
        with suppress(OSError, ValueError, RuntimeError):  # standard error may be no file
            faulthandler.cancel_dump_traceback_later()
            if self._began and sys.__stderr__ is not None:
                left = max(0.0, min(self._deadlines().values()) - time.monotonic())
                faulthandler.dump_traceback_later(left + _GRACE_SECONDS, exit=True, file=sys.__stderr__)
        self._changed.notify_all()

    def _deadlines(self) -> dict[str, float]:
        return {job: began + self.seconds - self._spent.get(job, 0.0) for job, began in self._began.items()}

    def _run(self) -> None:
        with self._changed:
            while not self._is_stopped:
                deadlines = self._deadlines()
                if not deadlines:
                    self._changed.wait()
                    continue
                job, deadline = min(deadlines.items(), key=lambda one: one[1])
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            else:
                return
        _LOG.error("job %s takes longer than %g s and is ended", job, self.seconds)
        self._on_overrun(job)
