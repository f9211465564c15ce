"""When is a study complete? DICOM does not say; these rules do.

DIMSE has no "end of study" message (PS3.4 B: each C-STORE stands alone), so completeness is a judgement about silence.
The judgement is a pure function of what arrived, the rules and the clock: the same arrivals give the same answer after
a restart, and no timer or lock file has to survive. An instance that comes after a study was complete opens its next
generation; earlier generations never change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class CompletionRules:
    """How long silence must last.

    Attributes:
        quiet_seconds: complete when nothing arrived for this long, open associations or not.
        released_seconds: complete when every association that brought an instance is released and this much time has
            passed since the last release or arrival; None: releases are not looked at.
    """

    quiet_seconds: float
    released_seconds: float | None = None


@dataclass(frozen=True)
class Arrival:
    """One instance that came for the first time.

    Attributes:
        received_at: seconds since the epoch.
        association: which association brought it.
        released_at: when that association ended, in seconds since the epoch; None while it is open.
    """

    received_at: float
    association: str
    released_at: float | None = None


@dataclass(frozen=True)
class StudyProgress:
    """Where a study stands.

    Attributes:
        generation: from 1; 0 when nothing arrived. Each late instance after completion opens the next one.
        instances: how many instances belong to this generation and those before it.
        complete: whether this generation is complete at the time asked for.
        due_at: when it was or will be complete if nothing more arrives, as far as is known now; None when nothing
            arrived.
    """

    generation: int
    instances: int
    complete: bool
    due_at: float | None


def study_progress(arrivals: Sequence[Arrival], rules: CompletionRules, now: float) -> StudyProgress:
    """Judge a study.

    Args:
        arrivals: in any order; those later than `now` are ignored, so are releases later than `now`.
        rules: how long silence must last.
        now: seconds since the epoch.
    Returns:
        The generation that is open or was completed last.
    """
    ordered = sorted((a for a in arrivals if a.received_at <= now), key=lambda arrival: arrival.received_at)
    if not ordered:
        return StudyProgress(0, 0, False, None)
    generation = 1
    closes_at = _ClosingTime(rules, now)
    for arrival in ordered:
        if closes_at.due is not None and closes_at.due <= arrival.received_at:
            generation += 1
            closes_at = _ClosingTime(rules, now)
        closes_at.add(arrival)
    due = closes_at.due
    return StudyProgress(generation, len(ordered), due is not None and due <= now, due)


class _ClosingTime:
    """When one generation closes, as its arrivals are added in the order of time."""

    def __init__(self, rules: CompletionRules, now: float) -> None:
        self._rules = rules
        self._now = now
        self._last_arrival: float | None = None
        self._last_release = float("-inf")
        self._any_open = False

    def add(self, arrival: Arrival) -> None:
        self._last_arrival = arrival.received_at
        if arrival.released_at is None or arrival.released_at > self._now:
            self._any_open = True
        else:
            self._last_release = max(self._last_release, arrival.released_at)

    @property
    def due(self) -> float | None:
        if self._last_arrival is None:
            return None
        quiet = self._last_arrival + self._rules.quiet_seconds
        if self._rules.released_seconds is None or self._any_open:
            return quiet
        return min(quiet, max(self._last_arrival, self._last_release) + self._rules.released_seconds)
