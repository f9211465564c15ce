"""What processes need to know of one another: whose folder it is, who is called what, whose report came."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from sqlalchemy import URL

from dicom_bridge.delivery.dimse.commitment import CommitmentReport, reference
from dicom_bridge.delivery.dimse.shared_reports import SharedCommitmentReports
from dicom_bridge.gateway.composition import Gateway
from dicom_bridge.jobs.worker_registry import WorkerRegistry, WorkerState
from dicom_bridge.settings import GatewaySettings
from dicom_bridge.store.commitments import CommitmentRequest, CommitmentRequests
from dicom_bridge.store.database import Database
from dicom_bridge.store.files.folder_lock import claim_name, lock_state_folder
from rcmed.errors import ConfigurationError


def test_a_folder_is_shared_by_those_that_share_a_database_only(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with lock_state_folder(tmp_path, shared=True), lock_state_folder(tmp_path, shared=True):
        assert tmp_path.stat().st_mode & 0o777 == 0o700, "images of patients are not for other users"
        with pytest.raises(ConfigurationError, match=r"in use by another gateway.*database\.url"):
            lock_state_folder(tmp_path)
    with lock_state_folder(tmp_path):
        for shared in (True, False):
            with pytest.raises(ConfigurationError, match="in use by another gateway"):
                lock_state_folder(tmp_path, shared)


def test_a_name_belongs_to_one_process_and_is_found_again(tmp_path: Path) -> None:
    first, of_first = claim_name(tmp_path, None)
    second, of_second = claim_name(tmp_path, None)
    assert (first.rpartition("-")[2], second.rpartition("-")[2]) == ("1", "2")
    of_first.close()
    again, of_again = claim_name(tmp_path, None)
    assert again == first
    wanted, of_wanted = claim_name(tmp_path, "gpu-3")
    assert wanted == "gpu-3"
    with pytest.raises(ConfigurationError, match=r"workers\.name.*gpu-3"):
        claim_name(tmp_path, "gpu-3")
    for lock in (of_second, of_again, of_wanted):
        lock.close()


def test_working_only_needs_postgresql(tmp_path: Path, threshold_assistant: Any) -> None:
    settings = GatewaySettings(state_folder=tmp_path / "state")
    with pytest.raises(ConfigurationError, match=r"database\.url.*SQLite serves one process"):
        Gateway(settings, threshold_assistant, receives=False).start()


def test_a_database_that_does_not_answer_is_told_by_its_key(tmp_path: Path, threshold_assistant: Any) -> None:
    secret = tmp_path / "password"
    secret.write_text("a secret")
    url = "postgresql+psycopg://rcmed@127.0.0.1:1/rcmed"
    told = {"state_folder": tmp_path / "state", "database": {"url": url, "password_file": secret}}
    with pytest.raises(ConfigurationError) as caught:
        Gateway(GatewaySettings.model_validate(told), threshold_assistant).start()
    line = str(caught.value)
    assert "database.url" in line and "127.0.0.1" in line
    assert "a secret" not in line and "\n" not in line


@pytest.fixture
def shared_database(postgresql_of_all: Any) -> Any:
    """Opens the same new database, as one more process would."""
    address = postgresql_of_all.create_database(uuid.uuid4().hex)
    opened: list[Database] = []

    def open_it() -> Database:
        opened.append(Database(address))
        return opened[-1]

    yield open_it
    for database in opened:
        database.close()


@pytest.mark.integration
def test_who_fell_silent_is_taken_over_by_one(shared_database: Any) -> None:
    rolls = [WorkerRegistry(shared_database()) for _ in range(3)]
    for number, roll in enumerate(rolls):
        roll.enter(f"w{number}", receives=number == 0)
    with rolls[1].taking_over("w1", lost_seconds=60) as names:
        assert names == []
    rolls[0].leave("w0")
    with rolls[1].taking_over("w1", 60) as names:
        assert names == ["w0"]
        with rolls[2].taking_over("w2", 60) as others:
            assert others == []  # the first one is at it
    with rolls[2].taking_over("w2", 60) as names:
        assert names == []
    assert [worker.state for worker in rolls[2].all()] == [WorkerState.LOST, WorkerState.ALIVE, WorkerState.ALIVE]
    with rolls[1].taking_over("w1", 0) as names:
        assert names == ["w2"]  # silent for longer than nothing; never itself
    rolls[0].beat("w0")
    rolls[2].beat("w2")
    assert {worker.state for worker in rolls[2].all()} == {WorkerState.ALIVE}
    with pytest.raises(ValueError, match="killed"), rolls[0].taking_over("w0", 0) as names:
        assert names == ["w1", "w2"]
        raise ValueError("killed")
    with rolls[0].taking_over("w0", 0) as names:
        assert names == ["w1", "w2"]  # nobody took over


@pytest.mark.integration
def test_a_report_reaches_who_waits_in_another_process(shared_database: Any) -> None:
    waiting, receiving = (SharedCommitmentReports(shared_database()) for _ in range(2))
    transaction = waiting.expect()
    assert waiting.wait(transaction, 0.0) is None
    information = Dataset()
    information.TransactionUID = transaction
    information.ReferencedSOPSequence = [reference("1.2.840.1", "2.25.1")]
    refused = reference("1.2.840.1", "2.25.2")
    refused.FailureReason = 0x0110
    information.FailedSOPSequence = [refused]
    with ThreadPoolExecutor(1) as pool:
        report = pool.submit(waiting.wait, transaction, 60.0)
        assert receiving.arrived(information)
        assert report.result() == CommitmentReport(frozenset({"2.25.1"}), (("2.25.2", 0x0110),))
    waiting.forget(transaction)
    assert not receiving.arrived(information)


def test_a_storage_commitment_is_reported_by_one_process(any_database: Path | URL) -> None:
    databases = [Database(any_database), Database(any_database)]
    now = [1000.0]
    asked, other = (CommitmentRequests(database, lambda: now[0]) for database in databases)
    request = CommitmentRequest("2.25.7", "CT01", "127.0.0.1", [("1.2", "1.2.3")])
    asked.add(request)
    assert not other.claim("2.25.7", holds_association=False)  # who was asked comes first
    assert asked.claim("2.25.7", holds_association=True)
    now[0] += 10
    assert not other.claim("2.25.7", holds_association=False)  # it is being reported
    asked.put_off("2.25.7", now[0] + 5)
    now[0] += 5
    assert other.claim("2.25.7", holds_association=False)  # by whoever comes first from now on
    assert not asked.claim("2.25.7", holds_association=False)
    other.reported("2.25.7")
    now[0] += 1000
    assert not asked.claim("2.25.7", holds_association=True)
    for database in databases:
        database.close()
