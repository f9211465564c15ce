"""Orders are durable, paced and worked off once; what an archive does not bring is asked for again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pydicom
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import URL

from dicom_bridge.ingest.pull.orders import PullOrders, PullState
from dicom_bridge.ingest.pull.puller import Puller
from dicom_bridge.ingest.pull.source import RemoteSeries, SourceUnavailableError, Take, parse_query
from dicom_bridge.jobs.ledger import JobLedger
from dicom_bridge.settings import PullSettings
from dicom_bridge.store.database import Database
from dicom_bridge.store.tables import PullRow
from dicom_bridge.web.application import build_application
from dicom_bridge.web.pull import pull
from rcmed.errors import InputError
from stored import Stored


class Archive:
    """An archive in memory."""

    name = "pacs"

    def __init__(self) -> None:
        self.files: dict[str, list[Path]] = {}
        self.fetched: list[tuple[str, int]] = []
        self.is_down = False
        self.brings = 1000
        self.queries: list[Mapping[str, str]] = []

    def add(self, files: list[Path]) -> str:
        study = str(pydicom.dcmread(files[0]).StudyInstanceUID)
        self.files[study] = files
        return study

    def studies(self, query: Mapping[str, str]) -> Iterator[str]:
        self.queries.append(query)
        yield from self.files

    def series(self, study_uid: str) -> Iterable[RemoteSeries]:
        if self.is_down:
            raise SourceUnavailableError("does not answer")
        headers = [pydicom.dcmread(file) for file in self.files.get(study_uid, [])]
        for uid in sorted({header.SeriesInstanceUID for header in headers}):
            instances = {str(h.SOPInstanceUID): str(h.SOPClassUID) for h in headers if h.SeriesInstanceUID == uid}
            yield RemoteSeries(uid, headers[0].Modality, instances)
        if headers:
            yield RemoteSeries("1.2.3", "SEG", {"1.2.3.4": ""})

    def fetch(self, study_uid: str, series: RemoteSeries, missing: Sequence[str], take: Take) -> None:
        self.fetched.append((study_uid, len(missing)))
        files = {str(pydicom.dcmread(file).SOPInstanceUID): file for file in self.files[study_uid]}
        for uid in missing[: self.brings]:
            take((files[uid].read_bytes(),))

    def check(self) -> str:
        return "is there"


class Line:
    """Everything behind a puller, over restarts."""

    def __init__(self, folder: Path, archive: Archive, **pace: Any) -> None:
        self.stored = Stored(folder)
        self.now = 1000.0
        self.orders = PullOrders(self.stored.database, lambda: self.now)
        ledger = JobLedger(self.stored.database)
        settings = PullSettings.model_validate({"first_wait_seconds": 10, "maximum_attempts": 3, **pace})
        self.puller = Puller(
            settings, {"pacs": archive}, self.orders, self.stored.intake, ledger, self.stored.observer, "RCMED"
        )

    def work(self) -> int:
        """Work until nothing is due; returns how many orders were worked on."""
        count = 0
        while self.puller.work():
            count += 1
        return count

    def states(self) -> dict[str, str]:
        return {row.study_uid or "query": row.state for row in self.orders.latest()}


@pytest.fixture
def archive() -> Archive:
    return Archive()


@pytest.fixture
def line(tmp_path: Path, archive: Archive) -> Iterator[Line]:
    line = Line(tmp_path / "state", archive, maximum_unfinished=100)
    yield line
    line.stored.close()


def test_what_is_ordered_comes_and_what_is_there_is_not_fetched_again(
    line: Line, archive: Archive, make_ct_series: Any
) -> None:
    study = archive.add(make_ct_series(4))
    assert line.orders.add_studies("pacs", [study, study]) == 1
    assert line.work() == 1
    (series,) = line.stored.index.series_of(study)
    assert len(line.stored.index.instances_of(study, series[0])) == 4
    assert series[1].calling_ae == "pacs"
    assert all(arrival.released_at is not None for arrival in line.stored.index.arrivals(study))
    assert line.states() == {study: PullState.DONE}
    assert line.orders.add_studies("pacs", [study]) == 1
    line.work()
    assert archive.fetched == [(study, 4)]
    assert line.orders.latest()[0].text == "0 instances fetched, 4 were there"


def test_an_order_survives_a_restart(line: Line, archive: Archive, make_ct_series: Any, tmp_path: Path) -> None:
    study = archive.add(make_ct_series(2))
    line.orders.add_studies("pacs", [study])
    assert not line.orders.is_pulling(study)
    claimed = line.orders.next(["pacs"], studies_too=True)
    assert line.orders.is_pulling(study)
    assert claimed is not None and claimed.study_uid == study
    assert line.orders.next(["pacs"], studies_too=True) is None
    line.stored.close()
    again = Line(tmp_path / "state", archive)
    assert again.work() == 0  # somebody works on it, as far as the index knows
    again.orders.take_up_again()
    assert again.work() == 1
    assert again.states() == {study: PullState.DONE}
    again.stored.close()


def test_an_archive_that_is_down_is_asked_again_later_and_given_up_at_last(
    line: Line, archive: Archive, make_ct_series: Any
) -> None:
    study = archive.add(make_ct_series(2))
    archive.is_down = True
    line.orders.add_studies("pacs", [study])
    assert line.work() == 1
    assert line.states() == {study: PullState.WAITING}
    assert line.puller._troubles == {"pacs": "does not answer"}
    line.now += 11
    archive.is_down = False
    assert line.work() == 1
    assert line.states() == {study: PullState.DONE}
    assert line.puller._troubles == {}
    archive.is_down = True
    line.orders.add_studies("pacs", [study])
    for _ in range(3):
        line.now += 1000
        line.work()
    assert line.states() == {study: PullState.FAILED}
    assert any("given up" in told.text for told in line.stored.index.lines(study))


def test_what_did_not_come_is_asked_for_again(line: Line, archive: Archive, make_ct_series: Any) -> None:
    study = archive.add(make_ct_series(5))
    archive.brings = 3
    line.orders.add_studies("pacs", [study])
    line.work()
    assert line.states() == {study: PullState.WAITING}
    assert "2 of 5 instances did not come" in str(line.orders.latest()[0].text)
    line.now += 100
    line.work()
    assert archive.fetched == [(study, 5), (study, 2)]
    assert line.states() == {study: PullState.DONE}


def test_a_study_that_the_archive_does_not_have_is_said(line: Line) -> None:
    line.orders.add_studies("pacs", ["1.2.3"])
    line.work()
    assert line.states() == {"1.2.3": PullState.FAILED}
    assert "no images of study 1.2.3" in str(line.orders.latest()[0].text)


def test_a_query_is_worked_off_at_the_pace_of_the_jobs(tmp_path: Path, archive: Archive, make_ct_series: Any) -> None:
    studies = {archive.add(make_ct_series(1)) for _ in range(5)}
    line = Line(tmp_path / "state", archive, maximum_unfinished=2)
    line.orders.add_query("pacs", {"Modality": "CT"})
    line.work()
    assert archive.queries == [{"Modality": "CT"}]
    assert line.states()["query"] == PullState.DONE
    # Two are open now, and nobody completes them here: the others wait.
    assert len(line.stored.index.open_studies()) == 2
    assert line.orders.counts() == {PullState.DONE: 3, PullState.WAITING: 3}
    assert set(line.states()) == studies | {"query"}
    line.stored.close()


def test_an_order_is_claimed_by_one_of_many(any_database: Path | URL) -> None:
    database = Database(any_database)
    orders = PullOrders(database)
    orders.add_studies("pacs", [f"1.2.{number}" for number in range(12)])

    def claim(_: int) -> list[str]:
        found = []
        while (row := orders.next(["pacs"], studies_too=True)) is not None:
            found.append(str(row.study_uid))
        return found

    with ThreadPoolExecutor(4) as pool:
        claimed = [uid for found in pool.map(claim, range(4)) for uid in found]
    database.close()
    assert sorted(claimed) == sorted(f"1.2.{number}" for number in range(12))


def test_queries_in_words() -> None:
    assert parse_query("Modality=CT, StudyDate=20260101-20260201") == {
        "Modality": "CT",
        "StudyDate": "20260101-20260201",
    }
    for text, told in (
        ("", "ATTRIBUTE=VALUE"),
        ("Modality", "ATTRIBUTE"),
        ("Colour=1", "'Colour'"),
        ("Rows=1", "Rows"),
    ):
        with pytest.raises(InputError, match=told):
            parse_query(text)


def test_the_api_writes_orders_down_and_tells_how_they_stand(line: Line) -> None:
    woken: list[bool] = []
    application = build_application([pull(line.orders, ["pacs"], lambda: woken.append(True))])
    client = TestClient(application, base_url="http://127.0.0.1")
    answer = client.post("/api/pull", json={"source": "pacs", "studies": ["1.2.3"]})
    assert (answer.status_code, answer.json(), woken) == (202, {"ordered": 1}, [True])
    assert client.post("/api/pull", json={"source": "pacs", "query": {"Modality": "CT"}}).status_code == 202
    told = client.get("/api/pull").json()
    assert told["orders"] == {"waiting": 2}
    assert {(row["study"], row["state"]) for row in told["latest"]} == {("1.2.3", "waiting"), (None, "waiting")}
    for order, status in (
        ({"source": "other", "studies": ["1.2.3"]}, 404),
        ({"source": "pacs", "studies": ["../x"]}, 422),
        ({"source": "pacs"}, 422),
        ({"source": "pacs", "query": {"Rows": "1"}}, 422),
    ):
        assert client.post("/api/pull", json=order).status_code == status
    assert line.orders.counts() == {"waiting": 2}


def test_what_is_counted_as_done_shows_its_end_among_the_latest(line: Line) -> None:
    class EndsBetweenTwoLooks(PullOrders):
        """Another thread ends the order as soon as the page has looked once."""

        def counts(self) -> dict[str, int]:
            told = super().counts()
            self.finish("pacs/1.2.3", PullState.DONE, "3 instances fetched, 0 were there")
            return told

        def latest(self, limit: int = 200) -> list[PullRow]:
            rows = super().latest(limit)
            self.finish("pacs/1.2.3", PullState.DONE, "3 instances fetched, 0 were there")
            return rows

    orders = EndsBetweenTwoLooks(line.stored.database)
    orders.add_studies("pacs", ["1.2.3"])
    client = TestClient(build_application([pull(orders, ["pacs"], lambda: None)]), base_url="http://127.0.0.1")
    told = client.get("/api/pull").json()
    assert told["orders"].get("done", 0) <= [row["state"] for row in told["latest"]].count("done")
    assert client.get("/api/pull").json()["latest"][0]["text"] == "3 instances fetched, 0 were there"
