"""The list of studies: found by what people know them by, with the state that they ask for, in both databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from sqlalchemy import URL

from dicom_bridge.jobs.control import JobControl
from dicom_bridge.operations.study_listing import StudyFilter, StudyListing, StudyState
from dicom_bridge.store.database import Database
from dicom_bridge.store.index import StudyIndex
from dicom_bridge.store.marks import FindingMarks, Mark
from dicom_bridge.store.recording import ReceivedInstance
from dicom_bridge.store.resends import Resends
from dicom_bridge.store.states import DeliveryState, JobState
from dicom_bridge.store.study_facts import StudyFacts, forget_patient_names, study_facts
from dicom_bridge.store.tables import DeliveryRow, JobRow, StudyRow
from dicom_bridge.store.timeline import StudyTimeline
from dicom_bridge.studies.routing import SeriesFacts


class Filled:
    """An index that is filled with rows as arrivals and jobs leave them; a second passes with each arrival."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.now = 1000.0
        self.index = StudyIndex(database, lambda: self.now)
        self.listing = StudyListing(database)

    def receive(self, study: str, description: str | None = None, instances: int = 1, **told: Any) -> str:
        """Instances of one study over an association; returns its id."""
        association = self.index.open_association("CT01", "RCMED", "127.0.0.1")
        facts = SeriesFacts(modality="CT", study_description=description)
        for number in range(instances):
            uid = f"{study}.1.{number}"
            one = ReceivedInstance(study, f"{study}.1", uid, "1.2", "1.2", uid, facts, None, StudyFacts(**told))
            self.index.record_instance(one, association)
        self.now += 1
        return association

    def ask(self, study: str, state: JobState, priority: str = "routine", **deliveries: DeliveryState) -> str:
        """A job of a study that is complete; returns its id."""
        with self.database.writing() as session:
            row = session.get(StudyRow, study)
            assert row is not None
            row.is_open = False
            self.now += 1
            job = JobRow(
                job_id=f"job {self.now:g}",
                study_uid=study,
                series_uid=f"{study}.1",
                generation=1,
                route="abdomen CT",
                instances=[],
                prompts=[],
                destinations=list(deliveries),
                state=state,
                priority=priority,
                created_at=self.now,
            )
            session.add(job)
            session.flush()
            for destination, where in deliveries.items():
                session.add(
                    DeliveryRow(
                        job_id=job.job_id,
                        destination=destination,
                        state=where,
                        delivered=[],
                        refused=[],
                        updated_at=self.now,
                    )
                )
            return job.job_id

    def found(self, text: str = "", **which: Any) -> list[str]:
        asked = StudyFilter(text=text, **which)
        rows = [row.study.study_uid for row in self.listing.page(asked)]
        assert len(rows) == self.listing.count(asked)
        return rows


@pytest.fixture
def filled(any_database: Path | URL) -> Iterator[Filled]:
    database = Database(any_database)
    yield Filled(database)
    database.close()


def test_a_study_is_found_by_what_people_know_it_by(filled: Filled) -> None:
    filled.receive("1.2.1", "Schädel nativ", accession_number="A-4711", study_date="2026-01-31")
    filled.receive("1.2.2", "CT Abdomen 100%", accession_number="B_0815", patient_name="MÜLLER^Jörg=x")
    filled.receive("1.2.3")
    assert filled.found() == ["1.2.3", "1.2.2", "1.2.1"], "the latest first"
    for text in ("a-4711", "SCHÄDEL", "nativ schädel", "2026-01-31", "20260131", "2026-01", "  4711 "):
        assert filled.found(text) == ["1.2.1"], text
    for text in ("0815", "müller", "jörg Müller", "Müller^Jörg", "Müller, Jörg", "100%", "b_08", "1.2.2"):
        assert filled.found(text) == ["1.2.2"], text
    for text in ("schädel 0815", "%", "_", "' OR 1=1 --", "A4711"):
        assert filled.found(text) == ([] if text not in "%_" else ["1.2.2"]), text
    (row,) = filled.listing.page(StudyFilter("4711"))
    assert (row.study.accession_number, row.study.study_date, row.instances) == ("A-4711", "2026-01-31", 1)


def test_patients_names_can_be_forgotten(filled: Filled) -> None:
    filled.receive("1.2.1", "CT Abdomen", accession_number="A1", patient_name="Doe^Jane")
    filled.receive("1.2.2")
    assert filled.found("jane doe") == ["1.2.1"]
    assert forget_patient_names(filled.database) == 1
    assert filled.found("jane") == [] and filled.found("abdomen a1 1.2.1") == ["1.2.1"]
    study = filled.index.study("1.2.1")
    assert study is not None and study.patient_name is None
    assert forget_patient_names(filled.database) == 0


def test_received_is_told_from_answered(filled: Filled) -> None:
    for number, deliveries in (
        (1, [(JobState.DONE, {"pacs": DeliveryState.DELIVERED})]),
        (2, [(JobState.DONE, {}), (JobState.QUEUED, {})]),
        (3, [(JobState.DONE, {}), (JobState.FAILED, {})]),
        (4, [(JobState.DONE, {"pacs": DeliveryState.REFUSED, "results": DeliveryState.DELIVERED})]),
        (5, [(JobState.REFUSED, {}), (JobState.CANCELLED, {})]),
        (6, [(JobState.REFUSED, {}), (JobState.DONE, {})]),
        (7, [(JobState.DELIVERING, {"pacs": DeliveryState.WAITING})]),
    ):
        filled.receive(f"1.2.{number}", instances=number)
        for state, where in deliveries:
            filled.ask(f"1.2.{number}", state, **where)
    filled.receive("1.2.8")  # it is not complete
    filled.receive("1.2.9")
    with filled.database.writing() as session:
        session.get_one(StudyRow, "1.2.9").is_open = False
    told = {row.study.study_uid: (row.state.value, row.instances) for row in filled.listing.page(StudyFilter())}
    assert told == {
        "1.2.1": ("answered", 1),
        "1.2.2": ("working", 2),
        "1.2.3": ("failed", 3),
        "1.2.4": ("failed", 4),
        "1.2.5": ("unanswered", 5),
        "1.2.6": ("answered", 6),
        "1.2.7": ("working", 7),
        "1.2.8": ("receiving", 1),
        "1.2.9": ("received", 1),
    }
    assert {uid: filled.listing.state(uid) for uid in told} == {uid: state for uid, (state, _) in told.items()}
    assert filled.listing.state("1.3") is None
    counts = filled.listing.counts()
    for state in StudyState:
        assert len(filled.found(state=state)) == counts[state] == [one for one, _ in told.values()].count(state)
    assert filled.found(job_state=JobState.QUEUED) == ["1.2.2"]
    failed = (DeliveryState.FAILED, DeliveryState.REFUSED)
    assert filled.found(destination="pacs", delivery_states=failed) == ["1.2.4"]
    assert filled.found(destination="results", delivery_states=failed) == []
    assert filled.found(destination="pacs") == ["1.2.7", "1.2.4", "1.2.1"]
    (row,) = filled.listing.page(StudyFilter(job_state=JobState.QUEUED))
    assert row.jobs == (("abdomen CT", "done", 1), ("abdomen CT", "queued", 1))


def test_what_failed_is_counted_by_destination_and_reason(filled: Filled) -> None:
    control = JobControl(filled.database)
    assert control.dead_letter_counts() == {}
    for number, state, error, deliveries in (
        (1, JobState.FAILED, "no memory", {}),
        (2, JobState.FAILED, None, {}),
        (3, JobState.FAILED, "no memory", {}),
        (4, JobState.FAILED, "see its delivery", {"pacs": DeliveryState.FAILED}),
        (5, JobState.DONE, None, {"pacs": DeliveryState.REFUSED, "results": DeliveryState.DELIVERED}),
    ):
        filled.receive(f"1.2.{number}")
        job = filled.ask(f"1.2.{number}", state, **deliveries)
        with filled.database.writing() as session:
            session.get_one(JobRow, job).error = error
    assert control.dead_letter_counts() == {(None, "no memory"): 2, (None, ""): 1, ("pacs", ""): 2}
    assert len(control.dead_letters("", "no memory")) == 2 and len(control.dead_letters("pacs", "")) == 2


def test_pages_days_and_associations(filled: Filled) -> None:
    associations = [filled.receive(f"1.2.{number}") for number in range(7)]  # at 1000 s, 1001 s, ...
    pages = [filled.listing.page(StudyFilter(), limit=3, offset=offset) for offset in (0, 3, 6, 9)]
    assert [[row.study.study_uid[-1] for row in page] for page in pages] == [list("654"), list("321"), ["0"], []]
    assert filled.found(since=1002.0, before=1004.0) == ["1.2.3", "1.2.2"]
    assert filled.found(association=associations[4]) == ["1.2.4"]
    assert filled.found(association="none") == []


def test_what_came_again_is_counted(filled: Filled) -> None:
    first = filled.receive("1.2.1", instances=3)
    filled.receive("1.2.2")
    resends, story = Resends(filled.database), StudyTimeline(filled.database)
    mixed = filled.receive("1.2.3")  # something new, and something known
    only = filled.index.open_association("CT02", "RCMED", "127.0.0.2")
    for association, differs in ((mixed, False), (only, False), (only, True)):
        resends.count(association, "1.2.1", differs)
    assert story.brought("1.2.1")[0].again == 0, "told at the association's end"
    assert resends.end(mixed) == {"1.2.1": (1, 0)} and resends.end(only) == {"1.2.1": (2, 1)}
    assert resends.end(only) == resends.end(first) == {}
    brought = [(one.id, one.calling_ae, one.instances, one.series, one.again) for one in story.brought("1.2.1")]
    assert brought[0] == (first, "CT01", 3, 1, 0)
    assert sorted(brought[1:]) == sorted([(mixed, "CT01", 0, 0, 1), (only, "CT02", 0, 0, 2)])
    assert {one.id: (one.instances, one.again) for one in story.associations()}[mixed] == (1, 1)
    assert {one.id: (one.instances, one.again) for one in story.associations()}[only] == (0, 2)
    listed = {row.study.study_uid: (row.instances, row.again) for row in filled.listing.page(StudyFilter())}
    assert listed == {"1.2.1": (3, 3), "1.2.2": (1, 0), "1.2.3": (1, 0)}
    assert filled.found(association=only) == ["1.2.1"] and filled.found(association=mixed) == ["1.2.3", "1.2.1"]


def test_the_queue_is_by_study_in_the_order_of_the_taking(filled: Filled) -> None:
    for number in (1, 2, 3):
        filled.receive(f"1.2.{number}", f"study {number}", accession_number=f"A{number}")
    first = filled.ask("1.2.1", JobState.QUEUED)
    second = filled.ask("1.2.2", JobState.QUEUED)
    third = filled.ask("1.2.1", JobState.QUEUED, priority="stat")
    running = filled.ask("1.2.2", JobState.RUNNING)
    filled.ask("1.2.3", JobState.DONE)
    queue = filled.listing.queue()
    assert [(study.study_uid, [job.job_id for job in study.jobs]) for study in queue] == [
        ("1.2.2", [running, second]),
        ("1.2.1", [third, first]),
    ]
    assert (queue[0].description, queue[0].accession_number) == ("study 2", "A2")
    assert [study.study_uid for study in filled.listing.queue(limit=1)] == ["1.2.2"]


def test_the_last_mark_of_a_finding_counts(filled: Filled) -> None:
    marks = FindingMarks(filled.database, lambda: 7.0)
    marks.set("j", 1, 1, 1, Mark.RIGHT, "liver", "found")
    marks.set("j", 1, 1, 1, Mark.WRONG, "liver", "found")
    marks.set("j", 1, 2, 1, Mark.WRONG, "liver", "found")
    marks.set("j", 1, 1, 2, Mark.RIGHT, "spleen", "absent")
    marks.set("k", 1, 1, 1, Mark.RIGHT, "liver", "found")
    marks.set("k", 1, 1, 1, None, "liver", "found")
    assert marks.counts() == {("liver", "found", "wrong"): 2, ("spleen", "absent", "right"): 1}
    assert {where: (row.mark, row.marked_at) for where, row in marks.of_job("j").items()} == {
        (1, 1): ("wrong", 7.0),
        (2, 1): ("wrong", 7.0),
        (1, 2): ("right", 7.0),
    }
    assert marks.of_job("k") == {}
    marks.set("j", 2, 1, 1, Mark.RIGHT, "liver", "found")  # the job was done again, and answered anew
    assert [row.mark for row in marks.of_job("j", 2).values()] == ["right"] and len(marks.of_job("j")) == 3
    assert marks.counts()["liver", "found", "right"] == 1


@pytest.mark.parametrize(
    ("told", "date"),
    [("20260131", "2026-01-31"), ("2026.01.31", "2026-01-31"), ("", None), ("2026", None), ("20260131-20260201", None)],
)
def test_what_a_header_says_of_its_study(told: str, date: str | None) -> None:
    header = Dataset()
    header.AccessionNumber = " A\x001 "
    header.PatientName = "Doe^Jane"
    header.add_new("StudyDate", "LO", told)
    assert study_facts(header) == StudyFacts("A 1", date, "Doe^Jane")
    assert study_facts(header).anonymous.patient_name is None
    assert study_facts(Dataset()) == StudyFacts()
