"""Retention: what is finished goes, what is not stays, and neither a crash nor a late instance loses anything."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from sqlalchemy import URL

from dicom_bridge.delivery.dimse.c_store import store_files
from dicom_bridge.delivery.dimse.outgoing import read_outgoing
from dicom_bridge.events.audit import verify
from dicom_bridge.gateway.composition import Gateway
from dicom_bridge.ingest.intake import Origin, RefusedInstanceError, Taken
from dicom_bridge.jobs.answer_writer import job_folder
from dicom_bridge.jobs.ledger import JobLedger
from dicom_bridge.operations.doctor import Verdict, examine
from dicom_bridge.operations.retention import Retention
from dicom_bridge.settings import GatewaySettings, RetentionSettings
from dicom_bridge.store.commitments import CommitmentRequest, CommitmentRequests
from dicom_bridge.store.files.removed_files import RemovedFiles
from dicom_bridge.store.removals import Removals
from dicom_bridge.store.states import DeliveryState, JobState
from dicom_bridge.store.tables import JobRow
from dicom_bridge.studies.completion import StudyProgress
from stored import Stored

DAY = 86_400.0
PATIENCE = 60.0


class PowerLossError(BaseException):
    """Nothing that comes after it is done, no `except` or `finally` of ours either."""


class Cleaned:
    """A store with one study of three instances and one job, and what retention needs."""

    def __init__(self, root: Path, sources: list[Path], database: Path | URL | None = None) -> None:
        self.root = root
        self.database = database
        self.sources = sources
        self.study = str(pydicom.dcmread(sources[0]).StudyInstanceUID)
        self.job_id = "a" * 64
        self.open()

    def open(self) -> None:
        """As after a restart."""
        self.stored = Stored(self.root, self.database)
        self.index = self.stored.index
        self.ledger = JobLedger(self.stored.database)
        self.removals = Removals(self.stored.database)
        self.forgotten: list[str] = []

    def restart(self) -> None:
        self.stored.close()
        self.open()
        self.retention().recover()

    def retention(self, days_later: float = 0.0, **settings: Any) -> Retention:
        def forget(job_id: str) -> bool:
            self.forgotten.append(job_id)
            return True

        return Retention(
            RetentionSettings.model_validate(settings),
            self.stored.files,
            self.index,
            self.removals,
            self.stored.observer,
            lambda job_id: job_folder(Path(), job_id),
            forget,
            clock=lambda: time.time() + days_later * DAY,
        )

    def receive(self, *files: Path) -> list[Taken]:
        origin = Origin(self.index.open_association("CT01", "RCMED", "127.0.0.1"), "CT01", "RCMED")
        outcomes = [self.stored.intake.take([file.read_bytes()], origin).outcome for file in files]
        self.stored.intake.end(origin)
        return outcomes

    def close_study(self, *jobs: JobRow) -> None:
        count = self.index.instance_count(self.study)
        assert self.index.close_generation(self.study, StudyProgress(1, count, True, None), jobs) is not None

    def job(self, state: JobState) -> JobRow:
        folder = job_folder(self.root, self.job_id)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.dcm").write_bytes(b"report")
        return JobRow(
            job_id=self.job_id,
            study_uid=self.study,
            series_uid="1.2",
            generation=1,
            route="r",
            instances=[],
            prompts=[],
            destinations=["pacs"],
            state=state,
            created_at=time.time(),
            finished_at=None if state == JobState.QUEUED else time.time(),
        )

    def finished(self, delivery: DeliveryState = DeliveryState.DELIVERED) -> None:
        """Received, looked at, and delivered or not."""
        self.receive(*self.sources)
        self.close_study(self.job(JobState.QUEUED))
        self.ledger.set_state(self.job_id, JobState.DELIVERING)
        self.ledger.begin_deliveries(self.job_id)
        if delivery != DeliveryState.PENDING:
            self.ledger.set_delivery(self.job_id, "pacs", delivery, attempts=1)

    def files(self) -> set[str]:
        return {str(path.relative_to(self.root)) for path in (self.root / "instances").rglob("*.dcm")}

    def recorded(self) -> set[str]:
        return {
            str(path)
            for series, _ in self.index.series_of(self.study)
            for path in self.index.instances_of(self.study, series).values()
        }

    def deleted(self) -> list[dict[str, Any]]:
        records = map(json.loads, self.stored.trail.read_text().splitlines())
        return [record for record in records if record["event"]["meaning"] == "DICOM Study Deleted"]

    def leftovers(self) -> list[Path]:
        return [path for path in (self.root / "removed").rglob("*") if path.is_file()]


@pytest.fixture
def cleaned(tmp_path: Path, make_ct_series: Any) -> Iterator[Cleaned]:
    made = Cleaned(tmp_path / "state", make_ct_series(3))
    yield made
    made.stored.close()


@pytest.fixture
def cleaned_anywhere(tmp_path: Path, make_ct_series: Any, any_database: Path | URL) -> Iterator[Cleaned]:
    """On SQLite, and on PostgreSQL."""
    made = Cleaned(tmp_path / "state", make_ct_series(3), any_database)
    yield made
    made.stored.close()


def test_nothing_is_deleted_by_default(cleaned: Cleaned) -> None:
    cleaned.finished()
    cleaned.retention(days_later=10_000).look()
    assert len(cleaned.files()) == 3 and cleaned.deleted() == []


def test_instances_go_after_their_days_and_results_after_theirs(cleaned_anywhere: Cleaned) -> None:
    cleaned = cleaned_anywhere
    cleaned.finished()
    policy = {"instances_days": 30, "results_days": 90}
    cleaned.retention(29.9, **policy).look()
    assert len(cleaned.files()) == 3
    cleaned.retention(30.1, **policy).look()
    assert cleaned.files() == cleaned.recorded() == set()
    assert (job_folder(cleaned.root, cleaned.job_id) / "report.dcm").exists()
    assert "3 instances of generation 1 were deleted" in cleaned.index.lines(cleaned.study)[0].text
    cleaned.retention(90.1, **policy).look()
    assert cleaned.forgotten == [cleaned.job_id]
    assert not job_folder(cleaned.root, cleaned.job_id).exists()
    assert cleaned.index.study(cleaned.study) is None
    assert cleaned.ledger.jobs(cleaned.study) == cleaned.index.lines(cleaned.study) == []
    assert cleaned.removals.unfinished() == cleaned.leftovers() == []
    series = str(pydicom.dcmread(cleaned.sources[0]).SeriesInstanceUID)
    told = [(record["deleted"], record.get("series"), record.get("jobs")) for record in cleaned.deleted()]
    assert told == [("instances", {series: 3}, None), ("results", None, [cleaned.job_id])]
    assert verify(cleaned.stored.trail) == 2


def test_what_an_operator_cancelled_goes_too(cleaned: Cleaned) -> None:
    cleaned.receive(*cleaned.sources)
    cleaned.close_study(cleaned.job(JobState.CANCELLED))
    cleaned.retention(2, instances_days=1).look()
    assert cleaned.files() == cleaned.recorded() == set()


def open_study(cleaned: Cleaned) -> None:
    cleaned.receive(*cleaned.sources)


def queued_job(cleaned: Cleaned) -> None:
    cleaned.receive(*cleaned.sources)
    cleaned.close_study(cleaned.job(JobState.QUEUED))


def failed_job(cleaned: Cleaned) -> None:
    cleaned.receive(*cleaned.sources)
    cleaned.close_study(cleaned.job(JobState.FAILED))


def waiting_delivery(cleaned: Cleaned) -> None:
    cleaned.finished(DeliveryState.WAITING)


def refused_delivery(cleaned: Cleaned) -> None:
    cleaned.finished(DeliveryState.REFUSED)


def given_up_delivery(cleaned: Cleaned) -> None:
    cleaned.finished(DeliveryState.FAILED)


def awaited_commitment(cleaned: Cleaned) -> None:
    cleaned.finished()
    uid = str(pydicom.dcmread(cleaned.sources[1]).SOPInstanceUID)
    CommitmentRequests(cleaned.stored.database).add(CommitmentRequest("1.9", "CT01", "127.0.0.1", [("1.2", uid)]))


@pytest.mark.parametrize(
    "unfinished",
    [
        open_study,
        queued_job,
        failed_job,
        waiting_delivery,
        refused_delivery,
        given_up_delivery,
        awaited_commitment,
    ],
)
def test_what_is_unfinished_stays(cleaned: Cleaned, unfinished: Callable[[Cleaned], None]) -> None:
    unfinished(cleaned)
    cleaned.retention(1000, instances_days=0, results_days=0, free_megabytes=10**9).look()
    assert len(cleaned.files()) == len(cleaned.recorded()) == 3
    assert cleaned.deleted() == cleaned.removals.unfinished() == []
    kept = unfinished in (queued_job, failed_job, waiting_delivery, refused_delivery, given_up_delivery)
    assert cleaned.removals.kept_count(time.time() + DAY) == kept


STEPS = [
    (RemovedFiles, "move_aside"),
    (Removals, "decide"),
    (RemovedFiles, "delete"),
    (Removals, "finish"),
]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step[1])
def test_a_crash_in_the_middle_leaves_all_or_nothing(
    cleaned_anywhere: Cleaned, monkeypatch: pytest.MonkeyPatch, step: tuple[type, str], after: bool
) -> None:
    cleaned = cleaned_anywhere
    cleaned.finished()
    real = getattr(*step)

    def crash(*told: Any, **more: Any) -> None:
        if after:
            real(*told, **more)
        raise PowerLossError

    with monkeypatch.context() as patched:
        patched.setattr(*step, crash)
        with pytest.raises(PowerLossError):
            cleaned.retention(2, instances_days=1).look()
    cleaned.restart()
    assert cleaned.files() == cleaned.recorded()
    assert cleaned.leftovers() == cleaned.removals.unfinished() == []
    decided = (step[1], after) not in {("move_aside", False), ("move_aside", True), ("decide", False)}
    assert len(cleaned.files()) == (0 if decided else 3)
    assert bool(cleaned.deleted()) == decided
    cleaned.retention(2, instances_days=1).look()
    assert cleaned.files() == cleaned.recorded() == set()
    assert len({record["removal"] for record in cleaned.deleted()}) == 1
    assert cleaned.receive(*cleaned.sources) == [Taken.STORED] * 3
    assert cleaned.files() == cleaned.recorded() and len(cleaned.files()) == 3


@pytest.mark.parametrize("step", STEPS[:3], ids=lambda step: step[1])
def test_an_instance_that_comes_meanwhile_is_kept(
    cleaned_anywhere: Cleaned, monkeypatch: pytest.MonkeyPatch, step: tuple[type, str], make_ct_series: Any
) -> None:
    """One that is new, and one that is there already: acknowledged ones that were new are there afterwards."""
    cleaned = cleaned_anywhere
    cleaned.finished()
    late = make_ct_series([7], cleaned.study)[0]
    acknowledged = []
    real = getattr(*step)

    def meanwhile(*told: Any, **more: Any) -> Any:
        for file in (late, cleaned.sources[0]):
            try:
                if cleaned.receive(file) == [Taken.STORED]:
                    acknowledged.append(file)
            except RefusedInstanceError as error:
                assert error.is_passing  # the sender tries again
        return real(*told, **more)

    with monkeypatch.context() as patched:
        patched.setattr(*step, meanwhile)
        cleaned.retention(2, instances_days=1).look()
    assert late in acknowledged
    assert cleaned.files() == cleaned.recorded() != set()
    uids = {str(pydicom.dcmread(file).SOPInstanceUID) for file in acknowledged}
    assert uids <= {Path(path).stem for path in cleaned.files()}
    assert cleaned.leftovers() == cleaned.removals.unfinished() == []
    assert cleaned.index.open_studies() == [cleaned.study]


def test_an_instance_between_its_place_and_its_row_is_brought_back(
    cleaned_anywhere: Cleaned, monkeypatch: pytest.MonkeyPatch, make_ct_series: Any
) -> None:
    """The hardest moment: its file has its name, its row is not there yet, and retention moves the study aside."""
    cleaned = cleaned_anywhere
    cleaned.finished()
    late = make_ct_series([7], cleaned.study)[0]
    record = cleaned.index.record_instances

    def slowly(arriving: Any) -> list[bool]:
        cleaned.retention(2, instances_days=1).look()
        return record(arriving)

    monkeypatch.setattr(cleaned.index, "record_instances", slowly)
    assert cleaned.receive(late) == [Taken.STORED]
    assert cleaned.files() == cleaned.recorded() and len(cleaned.files()) == 1
    assert len(cleaned.deleted()) == 1


def test_when_the_disk_fills_the_oldest_finished_study_goes_first(
    tmp_path: Path, make_ct_series: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    series = [make_ct_series(1) for _ in range(3)]
    cleaned = Cleaned(tmp_path / "state", series[0])
    studies = [str(pydicom.dcmread(files[0]).StudyInstanceUID) for files in series]
    for study, files in zip(studies, series, strict=True):
        cleaned.study = study
        cleaned.receive(*files)
        cleaned.close_study()
    monkeypatch.setattr(type(cleaned.stored.files), "free_megabytes", lambda files: 1000.0 - 100 * len(cleaned.files()))
    cleaned.retention(0.001, free_megabytes=850).look()
    assert [cleaned.index.instance_count(study) for study in studies] == [0, 0, 1]
    assert cleaned.deleted()[0]["reason"] == "less than 850 MB of disk were free"
    stuck = cleaned.retention(0.001, free_megabytes=1100, look_seconds=600)
    stuck.look()
    stuck.start(lambda study_uid: None)
    assert stuck.health() == "1000 MB free, 1100 wanted, and no finished study is left to delete"
    stuck.stop()
    cleaned.stored.close()


def test_what_the_trail_could_not_take_is_told_at_the_next_look(
    cleaned: Cleaned, monkeypatch: pytest.MonkeyPatch
) -> None:
    cleaned.finished()

    def full(*told: Any, **more: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(cleaned.stored._audit, "record", full)
        cleaned.retention(2, instances_days=1).look()
    assert cleaned.files() == set() and cleaned.deleted() == []
    cleaned.retention(2, instances_days=1).look()
    assert len(cleaned.deleted()) == 1


def test_rows_of_no_study_go_with_the_results(cleaned: Cleaned) -> None:
    cleaned.finished()
    cleaned.index.add_line("someone else was refused", study_uid="9.9")
    commitments = CommitmentRequests(cleaned.stored.database)
    commitments.add(CommitmentRequest("1.9", "CT01", "127.0.0.1", [("1.2", "1.3")]))
    policy = {"instances_days": 1, "results_days": 2}
    cleaned.retention(3, **policy).look()
    assert cleaned.index.lines() == []
    assert len(commitments.unreported()) == 1  # not until someone took it
    assert cleaned.removals.forget_rest(time.time() + DAY) == 0


# The whole gateway: a study that was cleaned comes again.


def gateway_settings(root: Path, **retention: Any) -> GatewaySettings:
    return GatewaySettings.model_validate(
        {
            "state_folder": str(root),
            "receive": {"port": 0, "minimum_free_megabytes": 0},
            "completion": {"quiet_seconds": 5, "released_seconds": 0.1},
            "jobs": {"polling_seconds": 0.05},
            "retention": {"look_seconds": 0.05, **retention},
            "web": {"port": 0},
        }
    )


def send(gateway: Gateway, files: list[Path]) -> None:
    outcomes = store_files(
        [read_outgoing(file) for file in files],
        host="127.0.0.1",
        port=gateway.ports.dicom,
        called_ae="RCMED",
        calling_ae="CT01",
        timeout_seconds=30,
    )
    assert [outcome.status for outcome in outcomes] == [0] * len(files)


def stored_files(root: Path) -> list[str]:
    """By `os.walk`, which lets folders vanish meanwhile."""
    return [name for _, _, names in os.walk(root / "instances") for name in names]


@pytest.mark.slow
def test_a_study_whose_instances_went_comes_again(
    tmp_path: Path, make_ct_series: Any, threshold_assistant: Any
) -> None:
    files = make_ct_series(4)
    study = str(pydicom.dcmread(files[0]).StudyInstanceUID)
    root = tmp_path / "state"
    with Gateway(gateway_settings(root, instances_days=0), threshold_assistant) as gateway:
        send(gateway, files)
        gateway.wait_for_study(study, PATIENCE)
        assert gateway._wait(lambda: not gateway.index.instance_count(study), PATIENCE)
        assert gateway._wait(lambda: not stored_files(root), PATIENCE)
        assert gateway.health()["retention"] == "ok"
    with Gateway(gateway_settings(root), threshold_assistant) as gateway:
        send(gateway, files)  # the very same: its results are there, nothing is done again
        assert gateway.wait_until_idle(PATIENCE)
        assert len(threshold_assistant.calls) == 1
        assert gateway.index.instance_count(study) == len(stored_files(root)) == 4
        send(gateway, make_ct_series(2, study))  # and a new series of it
        assert gateway.wait_until_idle(PATIENCE)
        jobs = gateway.ledger.jobs(study)
        assert sorted((job.generation, job.state) for job in jobs) == [(1, "done"), (3, "done")]


@pytest.mark.slow
def test_a_study_of_which_nothing_is_left_comes_again(
    tmp_path: Path, make_ct_series: Any, threshold_assistant: Any
) -> None:
    """It is looked at anew, and its results have the same UIDs, so that no destination has them twice."""
    files = make_ct_series(4)
    study = str(pydicom.dcmread(files[0]).StudyInstanceUID)
    root = tmp_path / "state"
    with Gateway(gateway_settings(root, instances_days=0, results_days=0), threshold_assistant) as gateway:
        uids = []
        for _ in range(2):
            send(gateway, files)
            assert gateway._wait(lambda: gateway.index.study(study) is None, PATIENCE)
            delivered = sorted((root / "results" / study).iterdir())
            uids.append([path.name for path in delivered])
            for path in delivered:
                path.unlink()
        assert len(uids[0]) == 2 and uids[0] == uids[1]
        assert len(threshold_assistant.calls) == 2
        assert not any((root / "jobs").iterdir())
    records = [json.loads(line) for line in (root / "audit.jsonl").read_text().splitlines()]
    kinds = [record["deleted"] for record in records if record["event"]["meaning"] == "DICOM Study Deleted"]
    assert kinds == ["instances", "results"] * 2


def test_the_doctor_tells_the_policy(tmp_path: Path) -> None:
    def told(**retention: Any) -> list[tuple[Verdict, str]]:
        settings = gateway_settings(tmp_path / "state", **retention)
        settings = settings.model_copy(
            update={"receive": settings.receive.model_copy(update={"minimum_free_megabytes": 100})}
        )
        return [(check.verdict, check.text) for check in examine(settings) if check.about.startswith("retention")]

    assert told() == [(Verdict.NOTE, "nothing is ever deleted: the disk fills")]
    assert told(instances_days=30, results_days=365) == [
        (Verdict.OK, "instances of finished studies go after 30 days, what is left of them after 365 days")
    ]
    assert told(free_megabytes=100)[0][0] == Verdict.WRONG
