"""Says that this process lives, takes over what lost ones left, and hands the job engine what it was not given."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from sqlalchemy.exc import DBAPIError

from dicom_bridge.jobs.engine import JobEngine
from dicom_bridge.jobs.ledger import JobLedger
from dicom_bridge.jobs.worker_registry import WorkerRegistry
from dicom_bridge.settings import WorkerSettings

_LOG = logging.getLogger(__name__)
# A job is given to the engine right after it was written down; one that was not by then never will be.
_SUBMITTED_SECONDS = 5.0
_SUBMITTED_AT_ONCE = 500


class Heartbeat:
    """Looks around every few seconds, in a thread of its own."""

    def __init__(
        self,
        settings: WorkerSettings,
        name: str,
        roll: WorkerRegistry | None,
        ledger: JobLedger,
        engine: JobEngine,
        on_lost: Callable[[str], None] = lambda name: None,
        on_look: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare.

        Args:
            settings: how often, and what silence is too long.
            name: of this process.
            roll: of the processes that share the database; None: there is only this one.
            ledger: of the jobs.
            engine: that does them.
            on_lost: called with the name of each process that was lost, when its jobs have been taken over.
            on_look: called each time, for what else is to be done when the database answers again.
        """
        self._settings = settings
        self._name = name
        self._roll = roll
        self._ledger = ledger
        self._engine = engine
        self._on_lost = on_lost
        self._on_look = on_look
        self._stopping = threading.Event()
        self._trouble = ""
        self._troubled_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)

    def start(self) -> None:
        """Start looking around."""
        self._thread.start()

    def stop(self) -> None:
        """Stop; the others are told that this process leaves."""
        self._stopping.set()
        if not self._thread.is_alive():
            return
        self._thread.join(timeout=30)
        if self._roll is not None:
            try:
                self._roll.leave(self._name)
            except DBAPIError as error:
                _LOG.warning("the others can't be told that this one leaves: %s", error.orig)

    def health(self) -> str:
        """ "ok", or what hinders it."""
        if not self._thread.is_alive():
            return "not running"
        return self._trouble or "ok"

    def look_around(self) -> None:
        """Do everything once.

        Raises:
            DBAPIError: the database does not answer.
        """
        if self._roll is not None:
            self._roll.beat(self._name)
            self._take_over(self._roll)
        self._on_look()
        self._engine.recover_strays()
        while waiting := self._ledger.not_submitted(_SUBMITTED_SECONDS, _SUBMITTED_AT_ONCE):
            _LOG.warning("%d jobs were written down and not begun; they are now", len(waiting))
            for job_id in waiting:
                self._engine.submit(job_id)
            self._ledger.submitted(waiting)

    def _take_over(self, roll: WorkerRegistry) -> None:
        since = None if self._troubled_at is None else time.monotonic() - self._troubled_at
        if since is not None and since < self._settings.lost_seconds:
            return  # the database was away: nobody could say that they live, and they need a while to do so
        with roll.taking_over(self._name, self._settings.lost_seconds) as names:
            for name in names:
                count = self._engine.recover(name)
                _LOG.warning("%s is gone: %d of its jobs and deliveries go on here or elsewhere", name, count)
                self._on_lost(name)

    def _run(self) -> None:
        wait = 0.0
        while not self._stopping.wait(wait):
            wait = self._settings.heartbeat_seconds
            try:
                self.look_around()
                self._trouble = ""
            except Exception as error:
                self._troubled_at = time.monotonic()
                reason = str(error.orig if isinstance(error, DBAPIError) else error).strip().splitlines()
                trouble = f"{type(error).__name__}: {reason[0] if reason else 'no reason told'}"
                if not self._trouble:
                    _LOG.warning("this process can't say that it lives, trying again: %s", trouble)
                self._trouble = trouble
