"""How each destination is: the last word on it, for the status page and Prometheus."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Condition:
    """One destination.

    Attributes:
        is_suspended: the last attempt failed; the next one is made at `next_attempt_at`, others wait behind it.
        failures: attempts in a row that failed.
        since: seconds since the epoch, when it became so; None: nothing was delivered to it yet.
        next_attempt_at: seconds since the epoch; None when it is not suspended, or given up.
        text: why the last attempt failed.
    """

    is_suspended: bool = False
    failures: int = 0
    since: float | None = None
    next_attempt_at: float | None = None
    text: str = ""


class DestinationConditions:
    """The condition of every destination, by name. Safe to call from any thread."""

    def __init__(self, names: Iterable[str], clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._conditions = {name: Condition() for name in names}

    def answered(self, name: str) -> None:
        """It took or refused what it was sent: it is well."""
        with self._lock:
            before = self._conditions.get(name, Condition())
            if before.is_suspended or before.since is None:
                self._conditions[name] = Condition(since=self._clock())

    def failed(self, name: str, text: str, wait_seconds: float | None) -> None:
        """It is sick; the next attempt is made after a wait; None: this delivery was given up."""
        now = self._clock()
        with self._lock:
            before = self._conditions.get(name, Condition())
            self._conditions[name] = replace(
                before,
                is_suspended=True,
                failures=before.failures + 1,
                since=before.since if before.is_suspended else now,
                next_attempt_at=None if wait_seconds is None else now + wait_seconds,
                text=text,
            )

    def all(self) -> dict[str, Condition]:
        """By name, sorted."""
        with self._lock:
            return dict(sorted(self._conditions.items()))
