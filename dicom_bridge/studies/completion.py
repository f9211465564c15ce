"""When is a study complete? DICOM does not say; these rules do.

DIMSE has no "end of study" message (PS3.4 B: each C-STORE stands alone), so completeness is a judgement about silence.
The judgement is a pure function of what arrived, the rules and the clock: the same arrivals give the same answer after
a restart, and no timer or lock file has to survive. An instance that comes after a study was complete opens its next
generation; earlier generations never change.

Two things can be said about a study beside silence: that it is complete now, and how many instances it will have (by
Number of Study Related Instances (0020,1208), or by whoever triggers). A number that was said is waited for: the study
is complete with the instance that reaches it, and before that only quiet ends the waiting.
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
            passed since the last release or arrival; None: releases are not looked at. One that was aborted, or whose
            connection was lost, is never released: what it was to bring may come again by another one.
        believes_headers: whether what instances say of their number counts; the caller leaves those marks out if not.
    """

    quiet_seconds: float
    released_seconds: float | None = None
    believes_headers: bool = True


@dataclass(frozen=True)
class Arrival:
    """One instance that came for the first time.

    Attributes:
        received_at: seconds since the epoch.
        association: which association brought it.
        released_at: when that association ended, in seconds since the epoch; None while it is open.
        is_aborted: whether it ended without a release (PS3.8 7.3, 7.4), so that nobody said that all was sent.
    """

    received_at: float
    association: str
    released_at: float | None = None
    is_aborted: bool = False


@dataclass(frozen=True)
class CompletionMark:
    """Something that was said about a study's completeness.

    Attributes:
        at: seconds since the epoch.
        expected: how many instances the study will have; None: as many as are there.
        is_trigger: someone said it on purpose; else an instance's header did.
    """

    at: float
    expected: int | None = None
    is_trigger: bool = True


@dataclass(frozen=True)
class StudyProgress:
    """Where a study stands.

    Attributes:
        generation: from 1; 0 when nothing arrived. Each late instance after completion opens the next one.
        instances: how many instances belong to this generation and those before it.
        complete: whether this generation is complete at the time asked for.
        due_at: when it was or will be complete if nothing more arrives, as far as is known now; None when nothing
            arrived.
        rule: in words, by which rule it is complete then.
        expected: how many instances it is said to have; None: nothing was said.
        since: when the first instance of the generation came, in seconds since the epoch.
    """

    generation: int
    instances: int
    complete: bool
    due_at: float | None
    rule: str = ""
    expected: int | None = None
    since: float = 0.0


def study_progress(
    arrivals: Sequence[Arrival], rules: CompletionRules, now: float, marks: Sequence[CompletionMark] = ()
) -> StudyProgress:
    """Judge a study.

    Args:
        arrivals: in any order; those later than `now` are ignored, so are releases later than `now`.
        rules: how long silence must last.
        now: seconds since the epoch.
        marks: what was said of it, in any order; those later than `now` are ignored.
    Returns:
        The generation that is open or was completed last.
    """
    ordered = sorted((a for a in arrivals if a.received_at <= now), key=lambda arrival: arrival.received_at)
    if not ordered:
        return StudyProgress(0, 0, False, None)
    generation, since = 1, ordered[0].received_at
    said = sorted((mark for mark in marks if mark.at <= now), key=lambda mark: mark.at)
    closing = _ClosingTime(rules, now, said, 0)
    for count, arrival in enumerate(ordered, start=1):
        if closing.due[0] <= arrival.received_at:
            generation, since = generation + 1, arrival.received_at
            closing = _ClosingTime(rules, now, said, count - 1)
        closing.add(arrival)
    due, rule = closing.due
    return StudyProgress(generation, len(ordered), due <= now, due, rule, closing.expected_at(now), since)


class _ClosingTime:
    """When one generation closes, and by which rule, as its arrivals are added in the order of time."""

    def __init__(self, rules: CompletionRules, now: float, marks: Sequence[CompletionMark], before: int) -> None:
        self._rules = rules
        self._now = now
        self._marks = marks
        self._before = self._count = before
        self._last_arrival = float("inf")
        self._last_release = float("-inf")
        self._any_open = self._any_aborted = False
        self._reached_at: float | None = None

    def add(self, arrival: Arrival) -> None:
        self._count += 1
        self._last_arrival = arrival.received_at
        if arrival.released_at is None or arrival.released_at > self._now:
            self._any_open = True
        elif arrival.is_aborted:
            self._any_aborted = True
        else:
            self._last_release = max(self._last_release, arrival.released_at)
        # Only the generation in which the number is reached ends by it; those of late instances end by silence.
        expected = self.expected_at(arrival.received_at)
        reached = expected is not None and self._before < expected <= self._count
        self._reached_at = arrival.received_at if reached else None

    def expected_at(self, time: float) -> int | None:
        """How many instances the study was last said to have."""
        said = [mark.expected for mark in self._marks if mark.at <= time and mark.expected is not None]
        return said[-1] if said else None

    def _awaited_at(self, time: float) -> int | None:
        """The expected number at a time, where not so many are there."""
        expected = self.expected_at(time)
        return expected if expected is not None and self._count < expected else None

    @property
    def due(self) -> tuple[float, str]:
        """(seconds since the epoch, the rule in words); infinite before the first arrival."""
        last, rules = self._last_arrival, self._rules
        if self._reached_at is not None:
            return self._reached_at, f"all {self._count} expected instances came"
        quiet = last + rules.quiet_seconds
        expected = self._awaited_at(quiet)
        missing = "" if expected is None else f"; {self._count} of {expected} expected instances came"
        aborted = "; an association was aborted before it was released, instances may be missing"
        text = missing + (aborted if self._any_aborted else "")
        due = [(quiet, f"nothing came for {rules.quiet_seconds:g} s{text}")]
        if rules.released_seconds is not None and not self._any_open and not self._any_aborted:
            released = max(last, self._last_release) + rules.released_seconds
            # What is said afterwards takes nothing back.
            if self._awaited_at(released) is None:
                due.append((released, f"the last association was released {rules.released_seconds:g} s before"))
        for mark in self._marks:
            if mark.is_trigger and mark.at >= last and (mark.expected is None or mark.expected <= self._count):
                due.append((mark.at, "it was said to be complete"))
        return min(due)
