"""What a job may take: told from headers before anything is decoded, and refused with a reason where it is too much."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless, generate_uid

from dicom_bridge.delivery.dimse.c_store import store_files
from dicom_bridge.delivery.dimse.outgoing import read_outgoing
from dicom_bridge.gateway.composition import Gateway
from dicom_bridge.jobs.control import JobControl
from dicom_bridge.jobs.ledger import Attempt, JobLedger
from dicom_bridge.jobs.memory import JobMemory, TooLargeError, machine_memory, memory_of_a_job, require_memory
from dicom_bridge.jobs.time_limit import TimeLimit
from dicom_bridge.series.headers.extent import PixelExtent, pixel_extent
from dicom_bridge.settings import GatewaySettings
from dicom_bridge.store.database import Database
from dicom_bridge.store.states import JobState
from dicom_bridge.store.tables import JobRow
from synthetic_study import ct_slice

PATIENCE = 60.0


def large_slice(folder: Path, edge: int = 3000) -> Path:
    """A slice of one grey, as RLE: a few hundred kB that stand for `edge` x `edge` pixels of 16 bits."""
    dataset = ct_slice(0, generate_uid(), generate_uid(), generate_uid())
    dataset.Rows = dataset.Columns = edge
    dataset.PixelData = bytes(edge * edge * 2)
    dataset.compress(RLELossless)
    path = folder / "large.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path


def test_an_extent_is_what_the_header_tells(tmp_path: Path) -> None:
    path = large_slice(tmp_path, 300)
    stored = path.stat().st_size
    assert pixel_extent(path, 2**32) == PixelExtent(90_000, 90_000, stored, False)
    dataset = pydicom.dcmread(path)
    dataset.NumberOfFrames, dataset.SamplesPerPixel = 5, 3
    dataset.save_as(path)
    found = pixel_extent(path, 2**32)
    assert (found.voxels, found.slice_pixels) == (5 * 3 * 90_000, 3 * 90_000)
    dataset.TotalPixelMatrixRows, dataset.TotalPixelMatrixColumns = 4000, 5000
    dataset.save_as(path)
    found = pixel_extent(path, 2**32)
    assert (found.voxels, found.slice_pixels) == (3 * 20_000_000, 3 * 20_000_000)


def test_a_deflated_instance_is_as_large_as_it_is_inflated(tmp_path: Path) -> None:
    dataset = ct_slice(0, generate_uid(), generate_uid(), generate_uid())
    dataset.add_new((0x0009, 0x0010), "LO", "RCMED TEST")
    dataset.add_new((0x0009, 0x1001), "OB", bytes(30_000_000))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    path = tmp_path / "deflated.dcm"
    dataset.save_as(path, implicit_vr=False, little_endian=True, enforce_file_format=True)
    found = pixel_extent(path, 2**32)
    assert found.voxels == 32 * 32 and found.is_deflated
    assert 30_000_000 < found.stored_bytes < 30_010_000
    assert 5_000_000 < pixel_extent(path, 5_000_000).stored_bytes < 7_000_000, "no further than to the limit"
    with pytest.raises(TooLargeError, match="jobs.memory_megabytes"):
        require_memory([path], 50_000_000)
    require_memory([path], 200_000_000)


@pytest.mark.parametrize("content", [b"", b"no DICOM", bytes(200) + b"1.2.840.10008.1.2.1.99"])
def test_what_can_not_be_read_has_no_extent(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd"
    path.write_bytes(content)
    assert pixel_extent(path, 2**32).voxels <= 1
    require_memory([path, tmp_path / "missing"], 1_000_000)


def test_more_voxels_larger_slices_and_larger_files_take_more() -> None:
    one = PixelExtent(1000, 1000, 100)
    assert JobMemory.of([one, one]).bytes > JobMemory.of([one]).bytes
    assert JobMemory.of([PixelExtent(1000, 1000, 100, True)]).bytes > JobMemory.of([one]).bytes
    assert JobMemory.of([PixelExtent(1000, 500, 100)]).bytes < JobMemory.of([one]).bytes
    assert JobMemory.of([]).bytes == 0


def test_the_memory_of_a_machine_is_that_of_its_control_group(tmp_path: Path) -> None:
    whole = machine_memory(tmp_path, tmp_path / "none")
    assert whole > 2**28
    own = tmp_path / "own"
    own.write_text("0::/rcmed.slice/rcmed.service\n")
    (tmp_path / "rcmed.slice" / "rcmed.service").mkdir(parents=True)
    (tmp_path / "rcmed.slice" / "rcmed.service" / "memory.max").write_text("max\n")
    assert machine_memory(tmp_path, own) == whole
    (tmp_path / "rcmed.slice" / "memory.max").write_text("100000000\n")
    assert machine_memory(tmp_path, own) == 100_000_000, "bound by the group above"
    (tmp_path / "memory.max").write_text("50000000\n")
    assert machine_memory(tmp_path, own) == 50_000_000, "within a container its own group is the root"
    own.write_text("12:memory:/docker/1\n1:cpu:/\n")
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("30000000\n")
    assert machine_memory(tmp_path, own) == 30_000_000
    assert memory_of_a_job(7, 4) == 7_000_000
    assert memory_of_a_job(None, 4) == pytest.approx(machine_memory() / 12, rel=0.01)


@pytest.fixture
def gateway(tmp_path: Path, threshold_assistant: Any) -> Iterator[Gateway]:
    settings = GatewaySettings.model_validate(
        {
            "state_folder": str(tmp_path / "state"),
            "receive": {"port": 0, "minimum_free_megabytes": 0},
            "completion": {"quiet_seconds": 5, "released_seconds": 0.1},
            "jobs": {"polling_seconds": 0.05, "memory_megabytes": 100},
            "web": {"enabled": False},
            "routing": {
                "routes": [{"name": "ct", "prompts": ["liver"], "destinations": ["results"]}],
                "destinations": {"results": {"type": "folder", "path": "results"}},
            },
        }
    )
    with Gateway(settings, threshold_assistant) as running:
        yield running


@pytest.mark.slow
def test_a_job_that_would_take_too_much_is_refused_and_the_next_one_runs(
    gateway: Gateway, tmp_path: Path, make_ct_series: Any
) -> None:
    def send(files: list[Path]) -> str:
        outcomes = store_files(
            [read_outgoing(file) for file in files],
            host="127.0.0.1",
            port=gateway.ports.dicom,
            called_ae="RCMED",
            calling_ae="CT01",
            timeout_seconds=30,
        )
        assert [outcome.status for outcome in outcomes] == [0] * len(files)
        return str(pydicom.dcmread(files[0]).StudyInstanceUID)

    study = send([large_slice(tmp_path)])
    (job,) = gateway.wait_for_study(study, PATIENCE)
    assert job.state == JobState.REFUSED
    (line,) = [line.text for line in gateway.index.lines(study_uid=study) if line.job_id == job.job_id]
    assert job.series_uid in line and "9 million voxels" in line and "jobs.memory_megabytes" in line and "(100)" in line
    (job,) = gateway.wait_for_study(send(make_ct_series(3)), PATIENCE)
    assert job.state == JobState.DONE


def test_a_job_is_begun_only_so_often(tmp_path: Path) -> None:
    database = Database(tmp_path / "index.sqlite")
    ledger, job_id = JobLedger(database), "a" * 64
    with database.writing() as session:
        session.add(
            JobRow(
                job_id=job_id, study_uid="1.2", series_uid="1.2.1", generation=1, route="r", instances=[], prompts=[],
                destinations=[], state=JobState.QUEUED, created_at=1.0,
            )
        )  # fmt: skip
    assert [ledger.begin_attempt(job_id, 2) for _ in range(3)] == [Attempt.BEGUN, Attempt.BEGUN, Attempt.TOO_MANY]
    ledger.end_attempts([job_id])
    assert ledger.begin_attempt(job_id, 2) is Attempt.BEGUN
    ledger.set_state(job_id, JobState.FAILED, "died")
    assert ledger.begin_attempt(job_id, 9) is Attempt.ENDED
    JobControl(database).redrive_job(job_id)
    assert ledger.begin_attempt(job_id, 1) is Attempt.BEGUN, "driven again it has all its attempts"
    ledger.set_state(job_id, JobState.DELIVERING)
    assert ledger.begin_attempt(job_id, 1) is Attempt.BEGUN, "what only has to be delivered is no danger"
    database.close()


@pytest.mark.slow
def test_time_counts_while_a_job_works_and_not_while_it_waits() -> None:
    late: list[str] = []
    happened = threading.Event()

    def on_overrun(job_id: str) -> None:
        late.append(job_id)
        happened.set()

    limit = TimeLimit(0.5, on_overrun)
    with limit.working("quick"):
        time.sleep(0.01)
    time.sleep(0.6)
    with limit.working("quick"):
        assert not happened.wait(0.1), "it waited between its steps"
    with limit.working("slow"):
        time.sleep(0.3)
    with limit.working("slow"):
        assert happened.wait(5), "both steps together are too long"
    assert late == ["slow"]
    limit.stop()


@pytest.mark.slow
def test_native_code_that_never_gives_the_interpreter_back_is_ended_too() -> None:
    script = (
        "import ctypes\n"
        "from dicom_bridge.jobs import time_limit\n"
        "time_limit._GRACE_SECONDS = 1.0\n"
        "with time_limit.TimeLimit(0.2, lambda job: None).working('stuck'):\n"
        "    ctypes.PyDLL(None).pause()\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1 and "Timeout" in ended.stderr
