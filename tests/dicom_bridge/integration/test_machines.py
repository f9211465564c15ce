"""Several processes on one PostgreSQL: what one leaves undone another does, and nothing is done twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage
from pynetdicom import AE

from dicom_bridge.gateway.composition import Gateway
from dicom_bridge.jobs.ledger import JobLedger
from dicom_bridge.results.identifiers import ResultIdentifiers
from dicom_bridge.settings import GatewaySettings
from dicom_bridge.store.index import StudyIndex
from dicom_bridge.store.states import FINAL_JOB_STATES, JobState
from dicom_bridge.store.tables import JobRow
from dicom_bridge.studies.completion import CompletionRules, study_progress
from machines import Machines
from postgresql_server import PostgresqlServer

pytestmark = pytest.mark.integration
LOST_SECONDS = 3.0
PATIENCE = 120.0
RECEIVER, WORKER = "receiver", "worker"


def settings(port: int) -> dict[str, Any]:
    return {
        "workers": {"heartbeat_seconds": 0.5, "lost_seconds": LOST_SECONDS},
        "receive": {"port": port, "minimum_free_megabytes": 0},
        "completion": {"quiet_seconds": 3600, "released_seconds": 0.1},
        "jobs": {"polling_seconds": 0.1},
        "web": {"enabled": False},
        "routing": {
            "routes": [{"name": "ct", "prompts": ["liver"], "destinations": ["results"]}],
            "destinations": {"results": {"type": "folder", "path": "results"}},
        },
    }


@pytest.fixture
def port(free_port: Callable[[], int]) -> int:
    return free_port()


@pytest.fixture
def machines(
    tmp_path: Path, postgresql_of_all: PostgresqlServer, port: int, request: pytest.FixtureRequest
) -> Iterator[Machines]:
    name = f"{request.node.name}-{time.time_ns()}"
    postgresql_of_all.create_database(name)
    with Machines(tmp_path, postgresql_of_all.settings(name), settings(port)) as running:
        yield running


def associate(port: int) -> Any:
    entity = AE("CT01")
    entity.add_requested_context(CTImageStorage)
    association = entity.associate("127.0.0.1", port, ae_title="RCMED")
    assert association.is_established
    return association


def send(port: int, files: Sequence[Path]) -> Dataset:
    """Send a study; returns its first instance."""
    association = associate(port)
    datasets = [pydicom.dcmread(file) for file in files]
    assert [association.send_c_store(dataset).get("Status") for dataset in datasets] == [0] * len(datasets)
    association.release()
    return datasets[0]


def finished(machines: Machines, ledger: JobLedger, studies: Sequence[str]) -> list[JobRow]:
    """Wait until the one job of each study is at its end."""

    def are_finished() -> bool:
        jobs = [ledger.jobs(study) for study in studies]
        return all(len(of_study) == 1 and of_study[0].state in FINAL_JOB_STATES for of_study in jobs)

    machines.wait_until(are_finished, "the jobs are at their end")
    return [ledger.jobs(study)[0] for study in studies]


def require_one_result_each(machines: Machines, jobs: Sequence[JobRow]) -> None:
    """SEG and SR of each job, once, with its UIDs, and told once in the audit trails."""
    assert [job.state for job in jobs] == [JobState.DONE] * len(jobs)
    expected = set()
    for job in jobs:
        identifiers = ResultIdentifiers.derive(job.job_id)
        expected |= {identifiers.segmentation_uid, identifiers.report_uid}
    files = [file for file in (machines.state / "results").rglob("*") if file.is_file()]
    assert {file.stem for file in files} == expected
    assert len(files) == len(expected)
    told = [uid for export in machines.exports() for uid in export["delivered"]]
    assert sorted(told) == sorted(expected)


def hold_a_job_each(machines: Machines, port: int, make_ct_series: Any) -> list[str]:
    """Both processes run and have begun one job each, which they do not finish; returns the studies."""
    for name in (RECEIVER, WORKER):
        machines.hold(name)
    machines.start(RECEIVER, receives=True, until_running=False)
    machines.start(WORKER)
    machines.wait_until(lambda: machines.is_running(RECEIVER), "the receiver runs")
    studies = [str(send(port, make_ct_series(2)).StudyInstanceUID) for _ in range(2)]
    machines.wait_until(
        lambda: all(len(machines.asked(name)) == 1 for name in (RECEIVER, WORKER)), "both have begun a job"
    )
    return studies


def test_the_jobs_of_a_killed_worker_are_done_by_another(machines: Machines, port: int, make_ct_series: Any) -> None:
    studies = hold_a_job_each(machines, port, make_ct_series)
    machines.kill(WORKER)
    killed_at = time.time()
    machines.let_go(RECEIVER)
    with machines.opened() as (_, ledger):
        require_one_result_each(machines, finished(machines, ledger, studies))
    _, taken_over_at = machines.asked(RECEIVER)
    # A beat, a look and a poll come on top, and this machine may be busy.
    assert taken_over_at - killed_at < LOST_SECONDS + 7
    assert len(machines.asked(WORKER)) == 1
    assert machines.stop(RECEIVER) == 0


def test_a_worker_that_was_only_paused_does_no_harm(machines: Machines, port: int, make_ct_series: Any) -> None:
    studies = hold_a_job_each(machines, port, make_ct_series)
    machines.pause(WORKER)
    machines.let_go(RECEIVER)
    with machines.opened() as (_, ledger):
        jobs = finished(machines, ledger, studies)
        require_one_result_each(machines, jobs)
        written = {file: file.stat().st_mtime_ns for file in (machines.state / "results").rglob("*.dcm")}
        machines.hold(RECEIVER)
        machines.let_go(WORKER)
        machines.go_on(WORKER)
        # It does another job: by then it has brought, in vain, what it had.
        studies += [str(send(port, make_ct_series(2)).StudyInstanceUID) for _ in range(2)]
        machines.wait_until(lambda: len(machines.asked(WORKER)) == 2, "the worker does another job")
        machines.let_go(RECEIVER)
        again = finished(machines, ledger, studies)
        require_one_result_each(machines, again)
        assert [(job.job_id, job.finished_at) for job in again[:2]] == [(job.job_id, job.finished_at) for job in jobs]
        assert [row.attempts for job in again for row in ledger.deliveries(job.job_id)] == [1] * 4
    assert {file: file.stat().st_mtime_ns for file in written} == written


def test_what_a_killed_receiver_had_taken_is_completed_by_a_worker(
    machines: Machines, port: int, make_ct_series: Any
) -> None:
    machines.start(WORKER, until_running=False)
    machines.start(RECEIVER, receives=True)
    association = associate(port)
    datasets = [pydicom.dcmread(file) for file in make_ct_series(3)]
    assert [association.send_c_store(dataset).get("Status") for dataset in datasets] == [0] * 3
    machines.kill(RECEIVER)  # its association is open, and nothing is complete before it ends
    association.abort()
    machines.wait_until(lambda: machines.is_running(WORKER), "the worker runs")
    with machines.opened() as (_, ledger):
        require_one_result_each(machines, finished(machines, ledger, [datasets[0].StudyInstanceUID]))
    assert machines.asked(RECEIVER) == []


def test_a_job_that_was_written_down_and_not_begun_is_begun(
    tmp_path: Path, postgresql_of_all: PostgresqlServer, threshold_assistant: Any, make_ct_series: Any
) -> None:
    """As when the process is killed between the two."""
    postgresql_of_all.create_database("written-down")
    database = postgresql_of_all.settings("written-down").model_dump()
    configured = GatewaySettings.model_validate(
        {**settings(0), "state_folder": tmp_path / "state", "database": database}
    )
    file, other = make_ct_series(1)[0], make_ct_series(1)[0]
    with Gateway(configured, threshold_assistant) as gateway:
        study = send(gateway.ports.dicom, [file])
        (done,) = gateway.wait_for_study(study.StudyInstanceUID, PATIENCE)
        assert done.state == JobState.DONE
        series = pydicom.dcmread(other)
        place = gateway.root / "instances" / "other.dcm"
        series.save_as(place)
        index = gateway.index
        study_uid, series_uid = str(series.StudyInstanceUID), str(series.SeriesInstanceUID)
        open_one_study(index, study_uid, series_uid, str(series.SOPInstanceUID))
        progress = study_progress(index.arrivals(study_uid), CompletionRules(0, 0), time.time() + 1)
        job = JobRow(
            job_id="ab" * 32,
            study_uid=study_uid,
            series_uid=series_uid,
            generation=1,
            route="ct",
            instances=[str(series.SOPInstanceUID)],
            prompts=["liver"],
            destinations=["results"],
            state=JobState.QUEUED,
            created_at=time.time(),
        )
        index.close_generation(study_uid, progress, [job])
        (done,) = gateway.wait_for_study(study_uid, PATIENCE)
        assert (done.job_id, done.state) == ("ab" * 32, JobState.DONE)


def open_one_study(index: StudyIndex, study_uid: str, series_uid: str, instance_uid: str) -> None:
    from dicom_bridge.store.index import ReceivedInstance
    from dicom_bridge.studies.routing import SeriesFacts

    instance = ReceivedInstance(
        study_uid, series_uid, instance_uid, "1.2", "1.2", "instances/other.dcm", SeriesFacts(modality="CT")
    )
    # Open: the gateway leaves it alone.
    index.record_instance(instance, index.open_association("CT01", "RCMED", "peer"))
