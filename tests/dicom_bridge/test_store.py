"""The store: paths from UIDs, durable files, an index that counts nothing twice."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import URL

from dicom_bridge.jobs.ledger import JobLedger
from dicom_bridge.store.database import Database
from dicom_bridge.store.files.instance_files import InstanceFiles, UnsafeUidError, prefetch, require_uid
from dicom_bridge.store.index import ReceivedInstance, StudyIndex
from dicom_bridge.store.states import DeliveryState, JobState
from dicom_bridge.store.tables import JobRow
from dicom_bridge.studies.completion import CompletionRules, StudyProgress, study_progress
from dicom_bridge.studies.routing import SeriesFacts
from rcmed.durable_files import write_durably


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(any_database: Path | URL) -> Iterator[Database]:
    opened = Database(any_database)
    yield opened
    opened.close()


@pytest.fixture
def index(database: Database, clock: Clock) -> StudyIndex:
    return StudyIndex(database, clock)


def instance(number: int, study: str = "1.2", series: str = "1.2.1") -> ReceivedInstance:
    uid = f"{series}.{number}"
    return ReceivedInstance(study, series, uid, "1.2.840.1", "1.2.840.2", f"a/{uid}.dcm", SeriesFacts(modality="CT"))


@pytest.mark.parametrize("text", ["1.2.840.10008.1", "2.25.330", "0", "1.02.3"])
def test_uids_are_taken(text: str) -> None:
    assert require_uid(text, "UID") == text


@given(st.text(alphabet="0123456789./\\ a\n\0", max_size=70))
def test_a_path_never_leaves_its_folder(text: str) -> None:
    files = InstanceFiles(Path("/nowhere"))
    try:
        path = files.path_of("1.2", text, "1.3")
    except UnsafeUidError:
        return
    assert path.parent.parent == Path("/nowhere/instances/1.2")
    assert path.parent.name == text
    assert ".." not in text


@pytest.mark.parametrize("text", [None, "", "..", "1..2", ".1", "1.", "1/2", "1" * 65, "abc", "1.2\n"])
def test_what_is_no_uid_is_refused(text: str | None) -> None:
    with pytest.raises(UnsafeUidError, match="Study"):
        require_uid(text, "Study Instance UID")


def test_incoming_files_are_kept_or_dropped(tmp_path: Path) -> None:
    files = InstanceFiles(tmp_path)
    files.prepare()
    destination = files.path_of("1.2", "1.3", "1.4")
    files.put([b"ab", memoryview(b"cd")], destination)
    assert destination.read_bytes() == b"abcd"
    (tmp_path / "incoming" / "0.part").write_bytes(b"half")  # as a crash leaves it
    files.prepare()
    assert list((tmp_path / "incoming").iterdir()) == []
    assert destination.read_bytes() == b"abcd"


@given(st.lists(st.binary(max_size=40), max_size=8), st.integers(1, 300))
def test_a_file_is_its_parts_however_many(
    tmp_path_factory: pytest.TempPathFactory, parts: list[bytes], times: int
) -> None:
    files = InstanceFiles(tmp_path_factory.mktemp("parts"))
    files.prepare()
    destination = files.path_of("1.2", "1.2.1", "1.2.1.1")
    files.put([memoryview(part) for part in parts * times], destination)
    assert destination.read_bytes() == b"".join(parts) * times


@pytest.mark.parametrize("is_advice_taken", [True, False])
def test_what_is_not_kept_in_memory_is_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_advice_taken: bool
) -> None:
    def refuse(*told: int) -> None:
        raise OSError(22, "Invalid argument")

    if not is_advice_taken:
        monkeypatch.setattr(os, "posix_fadvise", refuse)
    files = InstanceFiles(tmp_path, keeps_cached=False)
    files.prepare()
    destinations = [files.path_of("1.2", "1.3", f"1.4.{number}") for number in range(3)]
    for number, destination in enumerate(destinations):
        files.put([bytes([number]) * 100_000, b"end"], destination)
    prefetch([*destinations, tmp_path / "not there"])
    for number, destination in enumerate(destinations):
        assert destination.read_bytes() == bytes([number]) * 100_000 + b"end"


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    files = InstanceFiles(tmp_path)
    files.prepare()

    def parts() -> object:
        yield b"begin"
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        files.put(parts(), files.path_of("1.2", "1.3", "1.4"))  # type: ignore[arg-type]
    assert list((tmp_path / "incoming").iterdir()) == list((tmp_path / "instances").iterdir()) == []
    write_durably(tmp_path / "results" / "a.json", b"{}")
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["a.json"]


def test_a_duplicate_is_no_arrival(index: StudyIndex, clock: Clock) -> None:
    association = index.open_association("CT01", "RCMED", "127.0.0.1:1")
    assert index.record_instance(instance(1), association)
    clock.now += 100
    assert not index.record_instance(instance(1), association)
    assert index.instance_count("1.2") == 1
    assert [arrival.received_at for arrival in index.arrivals("1.2")] == [1000.0]


def test_what_arrives_together_is_recorded_as_if_one_by_one(index: StudyIndex, clock: Clock) -> None:
    first, second = (index.open_association(name, "RCMED", "peer") for name in "ab")
    index.record_instance(instance(1), first)
    index.close_generation("1.2", study_progress(index.arrivals("1.2"), CompletionRules(10), clock.now + 10), [])
    assert index.open_studies() == []
    clock.now += 20
    told = index.record_instances(
        [
            (instance(1), second),  # was there
            (instance(5, "1.3", "1.3.1"), first),
            (instance(6, "1.3", "1.3.2"), second),
            (instance(5, "1.3", "1.3.1"), second),  # comes twice
        ]
    )
    assert told == [False, True, True, False]
    assert index.open_studies() == ["1.3"]
    assert [arrival.association for arrival in index.arrivals("1.3")].count(first) == 1
    assert [uid for uid, _ in index.series_of("1.3")] == ["1.3.1", "1.3.2"]
    assert index.instance_count("1.3") == 2


def test_releases_reach_the_arrivals(index: StudyIndex, clock: Clock) -> None:
    first, second = (index.open_association(name, "RCMED", "peer") for name in "ab")
    index.record_instance(instance(1), first)
    index.record_instance(instance(2), second)
    clock.now = 1001
    index.release_association(first)
    clock.now = 1005
    index.release_association(first)
    assert sorted(str(arrival.released_at) for arrival in index.arrivals("1.2")) == ["1001.0", "None"]
    assert not any(arrival.is_aborted for arrival in index.arrivals("1.2"))
    index.release_all_associations()
    assert {arrival.released_at for arrival in index.arrivals("1.2")} == {1001.0, 1005.0}


def test_an_abort_reaches_the_arrivals(index: StudyIndex) -> None:
    first, second = (index.open_association(name, "RCMED", "peer") for name in "ab")
    index.record_instance(instance(1), first)
    index.record_instance(instance(2), second)
    index.release_association(first, is_aborted=True)
    index.release_association(first)  # its connection closes, too: the first end counts
    index.release_association(second)
    found = {arrival.association: arrival.is_aborted for arrival in index.arrivals("1.2")}
    assert found == {first: True, second: False}


def test_generations_are_taken_once_and_a_late_instance_reopens(index: StudyIndex, clock: Clock) -> None:
    rules = CompletionRules(quiet_seconds=10)
    association = index.open_association("a", "b", "peer")
    index.record_instance(instance(1), association)
    clock.now += 10
    progress = study_progress(index.arrivals("1.2"), rules, clock.now)
    index.record_instance(instance(2), association)
    assert index.close_generation("1.2", progress, []) is None
    assert index.open_studies() == ["1.2"]
    clock.now += 10
    progress = study_progress(index.arrivals("1.2"), rules, clock.now)
    assert (progress.generation, progress.complete) == (2, True)
    assert index.close_generation("1.2", progress, [job("j1")]) == ["j1"]
    assert index.open_studies() == []
    clock.now += 10
    index.record_instance(instance(3), association)
    progress = study_progress(index.arrivals("1.2"), rules, clock.now + 10)
    assert index.open_studies() == ["1.2"]
    assert progress.generation == 3
    assert index.close_generation("1.2", progress, [job("j1"), job("j2")]) == ["j2"]


def test_lines_are_single_and_kept_once_per_job(index: StudyIndex) -> None:
    index.add_line("two\n lines", study_uid="1.2")
    index.add_line("again", study_uid="1.2", job_id="j")
    index.add_line("again", study_uid="1.2", job_id="j")
    index.add_line("elsewhere", study_uid="9")
    assert [line.text for line in index.lines("1.2")] == ["again", "two lines"]


def test_the_index_survives_reopening(any_database: Path | URL, index: StudyIndex) -> None:
    index.record_instance(instance(1), index.open_association("a", "b", "peer"))
    database = Database(any_database)
    again = StudyIndex(database)
    database.close()
    assert again.instances_of("1.2", "1.2.1") == {"1.2.1.1": Path("a/1.2.1.1.dcm")}
    assert again.series_of("1.2")[0][1].modality == "CT"


def job(job_id: str) -> JobRow:
    return JobRow(
        job_id=job_id,
        study_uid="1.2",
        series_uid="1.2.1",
        generation=1,
        route="r",
        instances=["1.2.1.1"],
        prompts=[],
        destinations=[],
        state="queued",
        created_at=0.0,
    )


@pytest.fixture
def two_processes(any_database: Path | URL, clock: Clock) -> Iterator[list[Database]]:
    """Two that know nothing of each other but the database."""
    opened = [Database(any_database), Database(any_database)]
    yield opened
    for database in opened:
        database.close()


def test_what_comes_twice_at_once_is_recorded_once(two_processes: list[Database], clock: Clock) -> None:
    indexes = [StudyIndex(database, clock) for database in two_processes for _ in range(2)]
    associations = [index.open_association("CT01", "RCMED", "peer") for index in indexes]

    def receive(place: int) -> list[bool]:
        return [indexes[place].record_instance(instance(number), associations[place]) for number in range(20)]

    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(receive, range(4)))
    assert [sum(new) for new in zip(*outcomes, strict=True)] == [1] * 20
    assert indexes[0].instance_count("1.2") == 20


def test_a_generation_is_taken_by_one_process(two_processes: list[Database], clock: Clock) -> None:
    indexes = [StudyIndex(database, clock) for database in two_processes for _ in range(2)]
    association = indexes[0].open_association("a", "b", "peer")
    for generation in range(1, 11):
        indexes[0].record_instance(instance(generation), association)
        clock.now += 10
        progress = study_progress(indexes[0].arrivals("1.2"), CompletionRules(quiet_seconds=10), clock.now)
        assert (progress.generation, progress.complete) == (generation, True)

        def close(index: StudyIndex, name: str = f"j{generation}", progress: StudyProgress = progress) -> object:
            return index.close_generation("1.2", progress, [job(name)])

        with ThreadPoolExecutor(4) as pool:
            taken = list(pool.map(close, indexes))
        assert sorted(taken, key=str) == [None, None, None, [f"j{generation}"]]
    assert len(JobLedger(two_processes[1]).jobs()) == 10


def test_a_worker_that_was_overtaken_changes_nothing(two_processes: list[Database], clock: Clock) -> None:
    first, second = (JobLedger(database, clock) for database in two_processes)
    index = StudyIndex(two_processes[0], clock)
    index.record_instance(instance(1), index.open_association("a", "b", "peer"))
    todo = job("j")
    todo.destinations = ["pacs", "folder"]
    progress = study_progress(index.arrivals("1.2"), CompletionRules(quiet_seconds=0), clock.now)
    assert index.close_generation("1.2", progress, [todo]) == ["j"]
    first.set_state("j", JobState.RUNNING)
    assert second.begin_deliveries("j") == ["pacs", "folder"]
    second.set_state("j", JobState.DELIVERING)
    first.set_state("j", JobState.RUNNING)
    assert first.job("j").state == JobState.DELIVERING
    assert second.set_delivery("j", "pacs", DeliveryState.DELIVERED, attempts=1, delivered=["1"])
    assert not first.set_delivery("j", "pacs", DeliveryState.WAITING, attempts=1, text="no answer")
    assert second.set_delivery("j", "folder", DeliveryState.DELIVERED, attempts=1, delivered=["1"])
    first.set_state("j", JobState.FAILED, "too late")
    assert first.job("j").state == JobState.DONE
    assert [(row.state, row.attempts) for row in first.deliveries("j")] == [(DeliveryState.DELIVERED, 1)] * 2


def test_both_last_deliveries_at_once_finish_the_job(two_processes: list[Database], clock: Clock) -> None:
    index = StudyIndex(two_processes[0], clock)
    index.record_instance(instance(1), index.open_association("a", "b", "peer"))
    jobs = [job(f"j{number}") for number in range(10)]
    for one in jobs:
        one.destinations = ["a", "b"]
    progress = study_progress(index.arrivals("1.2"), CompletionRules(quiet_seconds=0), clock.now)
    index.close_generation("1.2", progress, jobs)
    ledgers = [JobLedger(database, clock) for database in two_processes]
    for one in jobs:
        ledgers[0].begin_deliveries(one.job_id)
        ledgers[0].set_state(one.job_id, JobState.DELIVERING)
        with ThreadPoolExecutor(2) as pool:
            pool.map(
                lambda told, name=one.job_id: told[0].set_delivery(name, told[1], DeliveryState.DELIVERED, attempts=1),
                zip(ledgers, "ab", strict=True),
            )
    assert {one.state for one in ledgers[0].jobs()} == {JobState.DONE}


def test_jobs_that_the_engine_was_not_given_are_known(index: StudyIndex, database: Database, clock: Clock) -> None:
    index.record_instance(instance(1), index.open_association("a", "b", "peer"))
    progress = study_progress(index.arrivals("1.2"), CompletionRules(quiet_seconds=0), clock.now)
    index.close_generation("1.2", progress, [job("j1"), job("j2"), job("j3")])
    ledger = JobLedger(database, clock)
    clock.now = 10.0  # they were made at 0
    assert ledger.not_submitted(older_than=11) == []
    assert sorted(ledger.not_submitted(older_than=10)) == ["j1", "j2", "j3"]
    ledger.submitted(["j1"])
    ledger.set_state("j2", JobState.REFUSED)
    assert ledger.not_submitted(older_than=10) == ["j3"]
