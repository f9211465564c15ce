"""A gateway that is killed with SIGKILL loses nothing that it acknowledged, and does nothing twice."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage
from pynetdicom import AE

from dicom_bridge.jobs.ledger import JobLedger
from dicom_bridge.results.identifiers import ResultIdentifiers
from dicom_bridge.store.database import Database
from dicom_bridge.store.index import StudyIndex
from dicom_bridge.store.states import FINAL_JOB_STATES, DeliveryState, JobState
from dicom_bridge.store.tables import JobRow

pytestmark = pytest.mark.integration
PATIENCE = 120.0


class Sender(threading.Thread):
    """Sends one instance after another until all are sent or the other side is gone.

    Attributes:
        acknowledged: SOP Instance UIDs that were answered with success.
        reached: set when there are as many as were waited for.
    """

    def __init__(self, port: int, datasets: Sequence[Dataset], wait_for: int | None = None) -> None:
        super().__init__(daemon=True)
        self.acknowledged: list[str] = []
        self.reached = threading.Event()
        self._port = port
        self._datasets = datasets
        self._wait_for = len(datasets) if wait_for is None else wait_for

    def run(self) -> None:
        entity = AE("CT01")
        entity.add_requested_context(CTImageStorage, self._datasets[0].file_meta.TransferSyntaxUID)
        entity.dimse_timeout = PATIENCE
        association = entity.associate("127.0.0.1", self._port, ae_title="RCMED")
        for dataset in self._datasets:
            try:
                answer = association.send_c_store(dataset)
            except RuntimeError:  # the association is gone
                return
            if answer.get("Status") != 0x0000:
                return
            self.acknowledged.append(str(dataset.SOPInstanceUID))
            if len(self.acknowledged) == self._wait_for:
                self.reached.set()
        association.release()


def send_all(port: int, datasets: Sequence[Dataset]) -> None:
    sender = Sender(port, datasets)
    sender.start()
    sender.join(PATIENCE)
    assert sender.acknowledged == [str(dataset.SOPInstanceUID) for dataset in datasets]


@contextmanager
def opened(state_folder: Path) -> Iterator[tuple[StudyIndex, JobLedger]]:
    """What the gateway has recorded, seen from another process."""
    database = Database(state_folder / "index.sqlite")
    try:
        yield StudyIndex(database), JobLedger(database)
    finally:
        database.close()


def finished_job(gateway: Any, ledger: JobLedger, study_uid: str) -> JobRow:
    """Wait until the only job of a study is at its end."""

    def is_finished() -> bool:
        jobs = ledger.jobs(study_uid)
        return bool(jobs) and all(job.state in FINAL_JOB_STATES for job in jobs)

    gateway.wait_until(is_finished, "the job is at its end")
    (job,) = ledger.jobs(study_uid)
    assert job.state == JobState.DONE
    return job


def test_what_was_acknowledged_survives_a_kill(gateway_process: Any, make_ct_series: Any) -> None:
    sent = [pydicom.dcmread(file) for file in make_ct_series(60)]
    study, series = sent[0].StudyInstanceUID, sent[0].SeriesInstanceUID
    # Nothing is complete before the third start, however long the others take.
    gateway_process.start(released_seconds=None)
    sender = Sender(gateway_process.port, sent, wait_for=10)
    sender.start()
    assert sender.reached.wait(PATIENCE)
    gateway_process.kill()
    sender.join(PATIENCE)
    assert not sender.is_alive()
    assert 10 <= len(sender.acknowledged) < len(sent)

    gateway_process.start(released_seconds=None)
    with opened(gateway_process.state) as (index, ledger):
        kept = index.instances_of(study, series)
        assert set(sender.acknowledged) <= set(kept)
        by_uid = {str(dataset.SOPInstanceUID): dataset for dataset in sent}
        for uid, path in kept.items():
            assert pydicom.dcmread(gateway_process.state / path) == by_uid[uid]
        assert list((gateway_process.state / "incoming").iterdir()) == []
        assert ledger.jobs() == []
    send_all(gateway_process.port, [by_uid[uid] for uid in by_uid if uid not in sender.acknowledged])
    gateway_process.kill()

    gateway_process.start()
    with opened(gateway_process.state) as (index, ledger):
        job = finished_job(gateway_process, ledger, study)
        assert sorted(job.instances) == sorted(by_uid)
        assert index.instance_count(study) == len(sent)
    assert sorted(pydicom.dcmread(file).Modality for file in gateway_process.result_files()) == ["SEG", "SR"]
    assert gateway_process.times_asked == 1


def test_a_job_that_was_killed_is_done_once(gateway_process: Any, make_ct_series: Any) -> None:
    sent = [pydicom.dcmread(file) for file in make_ct_series(4)]
    study = sent[0].StudyInstanceUID
    gateway_process.hold()
    gateway_process.start()
    send_all(gateway_process.port, sent)
    gateway_process.wait_until(lambda: gateway_process.times_asked == 1, "the assistant is asked")
    gateway_process.kill()
    with opened(gateway_process.state) as (_, ledger):
        assert [job.state for job in ledger.jobs()] == [JobState.RUNNING]
    assert gateway_process.result_files() == []

    gateway_process.let_go()
    gateway_process.start()
    with opened(gateway_process.state) as (_, ledger):
        job = finished_job(gateway_process, ledger, study)
        (delivery,) = ledger.deliveries(job.job_id)
    assert (delivery.state, delivery.attempts) == (DeliveryState.DELIVERED, 1)
    identifiers = ResultIdentifiers.derive(job.job_id)
    results = {pydicom.dcmread(file).Modality: file for file in gateway_process.result_files()}
    assert len(gateway_process.result_files()) == 2
    assert {kind: file.stem for kind, file in results.items()} == {
        "SEG": identifiers.segmentation_uid,
        "SR": identifiers.report_uid,
    }
    (expected,) = {(dataset.pixel_array > 100).tobytes() for dataset in sent}
    frames = pydicom.dcmread(results["SEG"]).pixel_array
    assert [frame.astype(bool).tobytes() for frame in frames] == [expected] * len(sent)
    assert gateway_process.times_asked == 2
    gateway_process.kill()

    written = {file: file.stat().st_mtime_ns for file in results.values()}
    gateway_process.start()
    # Another study goes through the same queues: when its job is done, whatever else was to be done is done, too.
    other = [pydicom.dcmread(file) for file in make_ct_series(2)]
    send_all(gateway_process.port, other)
    with opened(gateway_process.state) as (_, ledger):
        finished_job(gateway_process, ledger, other[0].StudyInstanceUID)
        (again,) = ledger.jobs(study)
        assert (again.job_id, again.state, again.finished_at) == (job.job_id, JobState.DONE, job.finished_at)
        assert [row.attempts for row in ledger.deliveries(job.job_id)] == [1]
    assert {file: file.stat().st_mtime_ns for file in results.values()} == written
    assert len(gateway_process.result_files()) == 4
    assert gateway_process.times_asked == 3
