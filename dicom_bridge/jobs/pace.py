"""How often the engine looks at its queues: often where something is about to come, seldom at rest.

What is put into a queue waits for the next look, and each look takes some milliseconds of the processor, which the
model wants, too.
"""

from __future__ import annotations

import logging
import threading
from typing import Protocol

from sqlalchemy.exc import SQLAlchemyError

_LOG = logging.getLogger(__name__)


class PolledQueue(Protocol):
    """What is needed of a queue of DBOS."""

    def set_polling_interval_sec(self, value: float) -> None:
        """From the next look on, look so often."""
        ...


class QueuePace:
    """Hastens queues for a while."""

    def __init__(self, rest_seconds: float, hasty_seconds: float = 0.04, while_seconds: float = 10.0) -> None:
        """Prepare.

        Args:
            rest_seconds: between looks at a queue at rest.
            hasty_seconds: between looks at a hastened one.
            while_seconds: how long it is hastened.
        """
        self._rest, self._hasty, self._while = rest_seconds, hasty_seconds, while_seconds
        self._lock = threading.Lock()
        self._queues: dict[str, PolledQueue] = {}
        self._ends: dict[str, threading.Timer] = {}

    def register(self, name: str, queue: PolledQueue) -> None:
        """A queue that may be hastened; it is at rest."""
        self._queues[name] = queue

    def hasten(self, name: str) -> None:
        """Something is about to come into this queue; one that was not registered stays as it is."""
        if self._rest <= self._hasty:
            return
        with self._lock:
            # Asked inside the lock: the engine may be stopped at any moment of a job.
            if name not in self._queues:
                return
            ends = self._ends.pop(name, None)
            if ends is not None:
                ends.cancel()
            else:
                self._set(name, self._hasty)
            ends = self._ends[name] = threading.Timer(self._while, self._rest_again, (name,))
            ends.daemon = True
            ends.start()

    def rest(self, name: str) -> None:
        """It came."""
        with self._lock:
            ends = self._ends.pop(name, None)
            if ends is not None:
                ends.cancel()
                self._set(name, self._rest)

    def stop(self) -> None:
        """Hasten nothing any more, and leave the queues to those who look at them next."""
        with self._lock:
            for ends in self._ends.values():
                ends.cancel()
            self._queues, self._ends = {}, {}

    def _rest_again(self, name: str) -> None:
        with self._lock:
            if self._ends.get(name) is threading.current_thread():
                del self._ends[name]
                self._set(name, self._rest)

    def _set(self, name: str, seconds: float) -> None:
        try:
            self._queues[name].set_polling_interval_sec(seconds)
        except SQLAlchemyError as error:
            # It is looked at all the same, only not as often as it might be.
            _LOG.debug("queue %s: %s", name, error)
