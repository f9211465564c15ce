"""Studies that become jobs: one that can't be judged is seen and holds up no other."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from dicom_bridge.gateway.study_watch import StudyWatch
from dicom_bridge.store.database import Database
from dicom_bridge.store.index import ReceivedInstance, StudyIndex
from dicom_bridge.studies.completion import CompletionRules
from dicom_bridge.studies.routing import Route, SeriesFacts

PATIENCE = 30.0


@pytest.fixture
def index(tmp_path: Path) -> StudyIndex:
    return StudyIndex(Database(tmp_path / "index.sqlite"))


def arrive(index: StudyIndex, study_uid: str, number: int = 1, modality: str = "CT") -> None:
    association = index.open_association("CT01", "RCMED", "127.0.0.1:1")
    facts = SeriesFacts(modality, None, None, None, None, "CT01", "RCMED")
    instance = ReceivedInstance(
        study_uid,
        f"{study_uid}.1",
        f"{study_uid}.1.{number}",
        "1.2.840.10008.5.1.4.1.1.2",
        "1.2.840.10008.1.2",
        "x.dcm",
        facts,
    )
    index.record_instance(instance, association)
    index.release_association(association)


def test_a_study_that_can_not_be_judged_is_seen_in_the_health_and_holds_up_no_other(
    index: StudyIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrive(index, "1.2.1")
    arrive(index, "1.2.2")
    judge = index.arrivals

    def arrivals(study_uid: str) -> object:
        if study_uid == "1.2.1":
            raise ValueError("the clock has stopped")
        return judge(study_uid)

    monkeypatch.setattr(index, "arrivals", arrivals)
    submitted: list[str] = []
    changed = threading.Event()
    watch = StudyWatch(
        index,
        CompletionRules(60, 0),
        (Route(name="r", destinations=("d",)),),
        lambda: "0" * 64,
        submitted.extend,
        changed.set,
    )
    assert watch.health() == "not running"
    watch.start()
    try:
        assert changed.wait(PATIENCE)
        assert index.open_studies() == ["1.2.1"]
        assert len(submitted) == 1
        arrive(index, "1.2.3")  # its look comes after the first one was taken down
        changed.clear()
        watch.wake()
        assert changed.wait(PATIENCE)
        assert watch.health() == "study 1.2.1: ValueError: the clock has stopped"
        monkeypatch.undo()
        changed.clear()
        watch.wake()
        assert changed.wait(PATIENCE)
        assert index.open_studies() == []
    finally:
        watch.stop()
    assert watch.health() == "not running"
    assert len(submitted) == 3


@pytest.mark.slow
def test_an_index_that_can_not_be_read_is_seen_and_read_again(
    index: StudyIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sqlalchemy.exc import OperationalError

    asked = threading.Event()
    read = index.open_studies

    def fail() -> list[str]:
        try:
            raise OperationalError("SELECT", {}, Exception("disk I/O error"))
        finally:
            if told.is_set():
                asked.set()
            told.set()

    told = threading.Event()
    monkeypatch.setattr(index, "open_studies", fail)
    watch = StudyWatch(index, CompletionRules(60, 0), (), lambda: "0" * 64, lambda job: None)
    watch.start()
    try:
        assert told.wait(PATIENCE)
        assert asked.wait(PATIENCE)  # asked a second time: what the first time brought is told by now
        assert watch.health() == "index: disk I/O error"
        healthy = threading.Event()

        def again() -> list[str]:
            if recovered.is_set():
                healthy.set()
            recovered.set()
            return read()

        recovered = threading.Event()
        monkeypatch.setattr(index, "open_studies", again)
        watch.wake()
        assert recovered.wait(PATIENCE)
        watch.wake()
        assert healthy.wait(PATIENCE)
        assert watch.health() == "ok"
    finally:
        watch.stop()


def test_a_study_that_is_being_fetched_is_not_complete(index: StudyIndex) -> None:
    arrive(index, "1.2.3")
    awaited, asked, closed = threading.Event(), threading.Event(), threading.Event()
    awaited.set()

    def is_awaited(study_uid: str) -> bool:
        assert study_uid == "1.2.3"
        if not awaited.is_set():
            return False
        asked.set()
        return True

    rules = CompletionRules(0.01, 0)
    watch = StudyWatch(index, rules, (), lambda: "0" * 64, lambda job: None, closed.set, is_awaited=is_awaited)
    watch.start()
    try:
        assert asked.wait(PATIENCE)
        assert index.open_studies() == ["1.2.3"]
        awaited.clear()
        assert closed.wait(PATIENCE)
        assert index.open_studies() == []
    finally:
        watch.stop()


@pytest.mark.slow
def test_jobs_are_told_before_a_study_is_complete_and_anew_when_more_came(index: StudyIndex) -> None:
    arrive(index, "1.2.3")
    told: list[list[str]] = []
    another, closed = threading.Event(), threading.Event()
    submitted: list[str] = []

    def expect(jobs: object) -> None:
        assert index.open_studies() == ["1.2.3"]
        told.append([job.job_id for job in jobs])  # type: ignore[attr-defined]
        if len(told) == 1:
            arrive(index, "1.2.3", number=2)
            watch.wake()
        else:
            another.set()

    route = Route(name="r", destinations=("d",))
    watch = StudyWatch(
        index, CompletionRules(60, 3), (route,), lambda: "0" * 64, submitted.extend, closed.set, on_expected=expect
    )
    watch.start()
    try:
        assert another.wait(PATIENCE)
        assert not submitted
        assert closed.wait(PATIENCE)
    finally:
        watch.stop()
    assert len(told) == 2 and told[0] != told[1]
    assert submitted == told[1]


def test_a_series_without_images_is_kept_and_asked_nothing_by_a_catch_all(index: StudyIndex) -> None:
    arrive(index, "1.2.1", modality="SR")
    arrive(index, "1.2.2", modality="CT")
    submitted: list[str] = []
    closed = threading.Semaphore(0)
    watch = StudyWatch(
        index,
        CompletionRules(60, 0),
        (Route(name="all", destinations=("d",)),),
        lambda: "0" * 64,
        submitted.extend,
        closed.release,
        skipped_modalities=("SR",),
    )
    watch.start()
    try:
        assert closed.acquire(timeout=PATIENCE) and closed.acquire(timeout=PATIENCE)
    finally:
        watch.stop()
    assert len(submitted) == 1
    (line,) = index.lines("1.2.1")
    assert (line.level, line.text) == ("info", "SR: nothing is looked for (receive.skipped_modalities)")
    assert [line.text for line in index.lines("1.2.2")] == []
