"""A job that is stuck ends within its time, one that kills its process ends after a few times; the next job runs."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydicom
import pytest

from dicom_bridge.delivery.dimse.c_store import store_files
from dicom_bridge.delivery.dimse.outgoing import read_outgoing
from dicom_bridge.jobs.control import JobControl
from dicom_bridge.jobs.ledger import JobLedger
from dicom_bridge.store.database import Database
from dicom_bridge.store.states import FINAL_JOB_STATES, JobState
from dicom_bridge.store.tables import JobRow

pytestmark = pytest.mark.integration


def send(port: int, files: list[Path]) -> tuple[str, str]:
    """Send a series; its study and its own UID."""
    outcomes = store_files(
        [read_outgoing(file) for file in files],
        host="127.0.0.1",
        port=port,
        called_ae="RCMED",
        calling_ae="CT01",
        timeout_seconds=60,
    )
    assert [outcome.status for outcome in outcomes] == [0] * len(files)
    first = pydicom.dcmread(files[0])
    return str(first.StudyInstanceUID), str(first.SeriesInstanceUID)


def series_of(files: list[Path]) -> str:
    return str(pydicom.dcmread(files[0]).SeriesInstanceUID)


@contextmanager
def opened(state: Path) -> Iterator[Database]:
    database = Database(state / "index.sqlite")
    try:
        yield database
    finally:
        database.close()


def ended_job(gateway: Any, study_uid: str) -> JobRow:
    """Wait until the only job of a study has its end."""
    with opened(gateway.state) as database:
        ledger = JobLedger(database)
        gateway.wait_until(
            lambda: [job.state in FINAL_JOB_STATES for job in ledger.jobs(study_uid)] == [True], "the job has its end"
        )
        (job,) = ledger.jobs(study_uid)
        return job


def test_a_job_that_is_stuck_fails_in_time_and_the_next_one_runs(gateway_process: Any, make_ct_series: Any) -> None:
    stuck, sound = make_ct_series(3), make_ct_series(3)
    gateway_process.block_at(series_of(stuck))
    # The first job imports what all need, which is part of its time.
    gateway_process.start(jobs={"time_limit_seconds": 15})
    process = gateway_process.process_id
    study, _ = send(gateway_process.port, stuck)
    job = ended_job(gateway_process, study)
    assert job.state == JobState.FAILED and job.error is not None and "jobs.time_limit_seconds (15)" in job.error
    gateway_process.wait_until(lambda: listens_anew(gateway_process), "it listens again")
    assert gateway_process.process_id == process
    other, _ = send(gateway_process.port, sound)
    assert ended_job(gateway_process, other).state == JobState.DONE
    assert gateway_process.times_asked == 2, "the job that was stuck was not begun again"
    with opened(gateway_process.state) as database:
        assert [letter.reason for letter in JobControl(database).dead_letters()] == [job.error]


def listens_anew(gateway: Any) -> bool:
    """It says so each time that it begins to listen."""
    return bool(gateway.said().count("takes longer than")) and gateway.is_answering()


def test_a_job_that_kills_its_process_is_a_dead_letter_after_three_times(
    gateway_process: Any, make_ct_series: Any
) -> None:
    deadly, sound = make_ct_series(3), make_ct_series(3)
    gateway_process.die_at(series_of(deadly))
    gateway_process.start()
    study, _ = send(gateway_process.port, deadly)
    assert gateway_process.wait_for_end() == -signal.SIGKILL
    for _ in range(2):
        gateway_process.start_and_die()
    gateway_process.start()
    job = ended_job(gateway_process, study)
    assert job.state == JobState.FAILED and job.error is not None
    assert "died 3 times" in job.error and "jobs.maximum_attempts" in job.error
    assert gateway_process.times_asked == 3
    other, _ = send(gateway_process.port, sound)
    assert ended_job(gateway_process, other).state == JobState.DONE


def test_restarts_in_good_order_are_no_attempts(gateway_process: Any, make_ct_series: Any) -> None:
    files = make_ct_series(2)
    gateway_process.hold()
    gateway_process.start(jobs={"maximum_attempts": 1})
    study, _ = send(gateway_process.port, files)
    for asked in (1, 2):
        gateway_process.wait_until(lambda asked=asked: gateway_process.times_asked == asked, "the assistant is asked")
        gateway_process.stop()
        gateway_process.start(jobs={"maximum_attempts": 1})
    gateway_process.let_go()
    assert ended_job(gateway_process, study).state == JobState.DONE
