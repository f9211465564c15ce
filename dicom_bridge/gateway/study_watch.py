"""Watches the open studies: a complete one becomes jobs, one for each series and route that match."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from sqlalchemy.exc import DBAPIError

from dicom_bridge.jobs.identity import job_identity
from dicom_bridge.store.index import StudyIndex
from dicom_bridge.store.states import JobState
from dicom_bridge.store.tables import JobRow
from dicom_bridge.studies.completion import Arrival, CompletionRules, StudyProgress, study_progress
from dicom_bridge.studies.routing import Route, job_priority, match_routes

_LOG = logging.getLogger(__name__)

# Between two looks at the open studies while instances pour in: some times what the last look took, so that looking
# costs little beside receiving, and never so long that completion would wait for it.
_SHORTEST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.2, 1.0
_PAUSE_PER_LOOK = 10
_AWAITED_SECONDS = 0.5
_LONGEST_LOOK_SECONDS = 5.0


@dataclass
class _Expectation:
    """What was told of a study before it was complete: of how many instances, and how long the next silence must be."""

    instances: int = 0
    silence_seconds: float = 0.1


class StudyWatch:
    """Looks at the open studies, in a thread of its own, whenever something arrived or one may have become complete."""

    def __init__(
        self,
        index: StudyIndex,
        rules: CompletionRules,
        routes: Sequence[Route],
        weights_sha256: Callable[[], str],
        submit: Callable[[Sequence[str]], None],
        on_change: Callable[[], None] = lambda: None,
        overdue_seconds: float = 0.0,
        skipped_modalities: Collection[str] = (),
        on_complete: Callable[[str, StudyProgress, Sequence[Arrival], int], None] = lambda *completed: None,
        is_awaited: Callable[[str], bool] = lambda study_uid: False,
        on_expected: Callable[[Sequence[JobRow]], None] | None = None,
    ) -> None:
        """Prepare. Several processes may watch the same studies: each generation is taken by one of them.

        Args:
            index: of what arrived.
            rules: when a study is complete.
            routes: which series are asked what.
            weights_sha256: tells it of the model that will be asked; part of a job's identity.
            submit: takes the ids of new jobs.
            on_change: called when a study was closed.
            overdue_seconds: a study is left to others until it has been complete for so long.
            skipped_modalities: series of which no route is asked, a catch-all neither: they hold no image.
            on_complete: takes a study that was closed, where it stands, its arrivals, and how many jobs are new.
            on_expected: takes the jobs that a study will have if nothing more comes, while it is waited whether
                anything does; None: nobody wants to know.
            is_awaited: whether more of a study is being fetched: it is not complete then, whatever the rules say.
        """
        self._index = index
        self._rules = rules
        self._routes = routes
        self._weights = weights_sha256
        self._submit = submit
        self._on_change = on_change
        self._overdue = overdue_seconds
        self._skipped = frozenset(skipped_modalities)
        self._on_complete = on_complete
        self._is_awaited = is_awaited
        self._on_expected = on_expected
        self._expected: dict[str, _Expectation] = {}
        self._look = threading.Event()
        self._stopping = threading.Event()
        self._faults: dict[str, str] = {}
        self._thread = threading.Thread(target=self._run, name="completion", daemon=True)

    def start(self) -> None:
        """Start looking."""
        self._thread.start()

    def stop(self) -> None:
        """Stop looking; a look in progress has a moment to end."""
        self._stopping.set()
        self._look.set()
        if self._thread.is_alive():
            self._thread.join(timeout=30)

    def wake(self) -> None:
        """Something arrived: look soon."""
        self._look.set()

    def health(self) -> str:
        """ "ok", or what hinders studies from becoming jobs."""
        if not self._thread.is_alive():
            return "not running"
        # A copy: the watching thread writes to it.
        return "; ".join(f"{what}: {fault}" for what, fault in sorted(self._faults.copy().items())[:3]) or "ok"

    def _run(self) -> None:
        wait, pause, looked = 0.0, 0.0, time.monotonic()
        while True:
            self._look.wait(wait)
            if self._stopping.wait(max(looked + pause - time.monotonic(), 0.0)):
                return
            self._look.clear()
            begun = time.monotonic()
            wait = self._look_at_open_studies()
            looked = time.monotonic()
            pause = min(max(_PAUSE_PER_LOOK * (looked - begun), _SHORTEST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS)

    def _look_at_open_studies(self) -> float:
        """Hand complete studies to the jobs; returns the seconds until the next one may be complete."""
        try:
            studies = self._index.open_studies()
        except DBAPIError as error:
            _LOG.error("the index can't be read, looking again soon: %s", error.orig)
            self._faults = {"index": str(error.orig)}
            return 1.0
        faults: dict[str, str] = {}
        wait = _LONGEST_LOOK_SECONDS
        for study_uid in studies:
            try:
                wait = min(wait, self._look_at(study_uid))
            except Exception as error:
                # One study that can't be judged must not hold up the others, and must be seen: in the log, and in the
                # gateway's health until a look at it succeeds.
                _LOG.exception("study %s can't be judged; looking again soon", study_uid)
                faults[f"study {study_uid}"] = f"{type(error).__name__}: {error}"
        self._faults = faults
        return wait

    def _look_at(self, study_uid: str) -> float:
        if self._is_awaited(study_uid):
            return _AWAITED_SECONDS
        now = time.time()
        marks = [mark for mark in self._index.marks(study_uid) if mark.is_trigger or self._rules.believes_headers]
        arrivals = self._index.arrivals(study_uid)
        progress = study_progress(arrivals, self._rules, now, marks)
        if not progress.complete:
            wait = _LONGEST_LOOK_SECONDS if progress.due_at is None else max(progress.due_at - now, 0.0)
            return min(wait, self._expect(study_uid, progress, arrivals, now))
        self._expected.pop(study_uid, None)
        if progress.due_at is not None and progress.due_at + self._overdue > now:
            return progress.due_at + self._overdue - now
        generation = progress.generation + self._index.earlier_generations(study_uid)
        progress = replace(progress, generation=generation)
        jobs, without_route = self._jobs_of(study_uid, progress.generation)
        new = self._index.close_generation(study_uid, progress, jobs)
        if new is None:
            return 0.0
        _LOG.info(
            "study %s complete, generation %d (%s), %d new jobs",
            study_uid,
            progress.generation,
            progress.rule,
            len(new),
        )
        for series_uid, text in without_route:
            self._index.add_line(text, level="info", study_uid=study_uid, series_uid=series_uid)
        if new:
            self._submit(new)
        self._on_complete(study_uid, progress, arrivals, len(new))
        self._on_change()
        return _LONGEST_LOOK_SECONDS

    def _expect(self, study_uid: str, progress: StudyProgress, arrivals: Sequence[Arrival], now: float) -> float:
        """Tell which jobs a study is about to have; returns the seconds until that should be looked at again.

        A sender may open an association for each instance, and each guess costs the reading of a study: from guess to
        guess the silence that is asked for doubles.
        """
        if self._on_expected is None or any(arrival.released_at is None for arrival in arrivals):
            return _LONGEST_LOOK_SECONDS
        known = self._expected.setdefault(study_uid, _Expectation())
        if known.instances == progress.instances:
            return _LONGEST_LOOK_SECONDS
        last = max(max(arrival.received_at, arrival.released_at or 0.0) for arrival in arrivals)
        missing = known.silence_seconds - (now - last)
        if missing > 0:
            return missing
        known.instances, known.silence_seconds = progress.instances, 2 * known.silence_seconds
        jobs, _ = self._jobs_of(study_uid, progress.generation + self._index.earlier_generations(study_uid))
        self._on_expected(jobs)
        return _LONGEST_LOOK_SECONDS

    def _jobs_of(self, study_uid: str, generation: int) -> tuple[list[JobRow], list[tuple[str, str]]]:
        """The jobs of a generation, and (Series Instance UID, why) of series that no route takes."""
        jobs = []
        without_route = []
        for series_uid, facts in self._index.series_of(study_uid):
            if facts.modality in self._skipped:
                text = f"{facts.modality}: nothing is looked for (receive.skipped_modalities)"
                without_route.append((series_uid, text))
                continue
            routes = match_routes(facts, self._routes)
            if not routes:
                text = f"no route matches (modality {facts.modality or 'absent'}, from {facts.calling_ae or 'unknown'})"
                without_route.append((series_uid, text))
            instances = list(self._index.instances_of(study_uid, series_uid))
            for route in routes:
                identifier = job_identity(
                    study_uid=study_uid,
                    series_uid=series_uid,
                    instance_uids=instances,
                    route=route.name,
                    weights_sha256=self._weights(),
                    prompts=route.prompts,
                )
                jobs.append(
                    JobRow(
                        job_id=identifier,
                        study_uid=study_uid,
                        series_uid=series_uid,
                        generation=generation,
                        route=route.name,
                        instances=instances,
                        prompts=list(route.prompts),
                        destinations=list(dict.fromkeys(route.destinations)),
                        state=JobState.QUEUED,
                        priority=job_priority(route, facts),
                        created_at=time.time(),
                    )
                )
        return jobs, without_route
