"""Storage commitment as a provider, asked by pynetdicom: what we say we keep is there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import StorageCommitmentPushModel  # type: ignore[attr-defined]

from dicom_bridge.delivery.dimse.commitment import WELL_KNOWN_INSTANCE, CommitmentReports
from dicom_bridge.ingest.dimse.commitment import CommitmentScp
from dicom_bridge.ingest.dimse.scp import StorageScp
from dicom_bridge.ingest.intake import InstanceIntake
from dicom_bridge.settings import ReceiveSettings
from dicom_bridge.store.commitments import CommitmentRequests
from dicom_bridge.store.database import Database
from dicom_bridge.store.files.instance_files import InstanceFiles
from dicom_bridge.store.index import StudyIndex

PATIENCE = 30.0


class Asker:
    """A modality that stores and asks for commitment, on one association or with a port for reports."""

    def __init__(self) -> None:
        self.reports: list[Dataset] = []
        self.arrived = threading.Event()
        self.entity = AE("CT01")
        self.entity.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
        self.entity.add_requested_context(StorageCommitmentPushModel)
        self.entity.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
        self.handlers = [(evt.EVT_N_EVENT_REPORT, self._take)]

    def _take(self, event: Any) -> tuple[int, None]:
        self.reports.append(event.event_information)
        self.arrived.set()
        return 0x0000, None

    def associate(self, port: int) -> Any:
        association = self.entity.associate("127.0.0.1", port, ae_title="RCMED", evt_handlers=self.handlers)
        assert association.is_established
        return association

    def listen(self, port: int = 0) -> Any:
        return self.entity.start_server(("127.0.0.1", port), block=False, evt_handlers=self.handlers)


def request(*objects: tuple[str, str]) -> Dataset:
    information = Dataset()
    information.TransactionUID = generate_uid()
    information.ReferencedSOPSequence = []
    for sop_class, uid in objects:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, uid
        information.ReferencedSOPSequence.append(item)
    return information


def ask(association: Any, information: Dataset) -> int:
    answer, _ = association.send_n_action(information, 1, StorageCommitmentPushModel, WELL_KNOWN_INSTANCE)
    return int(answer.Status)


class Provider:
    def __init__(self, folder: Path, **settings: Any) -> None:
        self.settings = ReceiveSettings.model_validate({"port": 0, "minimum_free_megabytes": 0, **settings})
        self.files = InstanceFiles(folder)
        self.files.prepare()
        self.database = Database(folder / "index.sqlite")
        self.index = StudyIndex(self.database)
        self.reports = CommitmentReports()
        self.requests = CommitmentRequests(self.database)
        self.lines: list[str] = []
        self.commitment = CommitmentScp(
            self.settings, self.files, self.requests, self.reports, lambda text, level: self.lines.append(text)
        )
        intake = InstanceIntake(self.settings, self.files, self.index)
        self.scp = StorageScp(self.settings, intake, commitment=self.commitment)

    def __enter__(self) -> Provider:
        self.commitment.start()
        self.scp.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.scp.stop()
        self.commitment.stop()
        self.database.close()


@pytest.fixture
def asker() -> Iterator[Asker]:
    yield Asker()


def test_the_report_comes_on_the_association_that_asks(tmp_path: Path, asker: Asker, make_ct_series: Any) -> None:
    kept, lost, other = (pydicom.dcmread(file) for file in make_ct_series(3))
    never_sent = generate_uid()
    with Provider(tmp_path / "state") as provider:
        association = asker.associate(provider.scp.port)
        assert [association.send_c_store(dataset).Status for dataset in (kept, lost, other)] == [0, 0, 0]
        paths = provider.index.instances_of(kept.StudyInstanceUID, kept.SeriesInstanceUID)
        (provider.files.root / paths[lost.SOPInstanceUID]).unlink()
        asked = request(
            (CTImageStorage, kept.SOPInstanceUID),
            (CTImageStorage, lost.SOPInstanceUID),
            (MRImageStorage, other.SOPInstanceUID),
            (CTImageStorage, never_sent),
        )
        assert ask(association, asked) == 0x0000
        assert asker.arrived.wait(PATIENCE)
        provider.commitment.stop()  # our answer to the report is through
        association.release()
    (report,) = asker.reports
    assert report.TransactionUID == asked.TransactionUID
    assert [item.ReferencedSOPInstanceUID for item in report.ReferencedSOPSequence] == [kept.SOPInstanceUID]
    failed = {item.ReferencedSOPInstanceUID: item.FailureReason for item in report.FailedSOPSequence}
    assert failed == {lost.SOPInstanceUID: 0x0112, other.SOPInstanceUID: 0x0119, never_sent: 0x0112}


@pytest.mark.slow
def test_a_report_that_could_not_be_brought_is_brought_after_a_restart(
    tmp_path: Path, asker: Asker, make_ct_series: Any
) -> None:
    listener = asker.listen()
    port = listener.server_address[1]
    listener.shutdown()
    peer = {
        "name": "CT",
        "calling_ae": ["CT01"],
        "addresses": ["127.0.0.1"],
        "report_to": {"host": "127.0.0.1", "port": port},
    }
    source = pydicom.dcmread(make_ct_series(1)[0])
    with Provider(tmp_path / "state", peers=[peer]) as provider:
        association = asker.associate(provider.scp.port)
        association.send_c_store(source)
        assert ask(association, request((CTImageStorage, source.SOPInstanceUID))) == 0x0000
        association.release()
    assert not asker.arrived.is_set()
    listener = asker.listen(port)
    try:
        with Provider(tmp_path / "state", peers=[peer]) as provider:
            assert asker.arrived.wait(PATIENCE)
        assert provider.lines == [] or "will be tried again" in provider.lines[0]
    finally:
        listener.shutdown()
    (report,) = asker.reports
    assert [item.ReferencedSOPInstanceUID for item in report.ReferencedSOPSequence] == [source.SOPInstanceUID]
    assert "FailedSOPSequence" not in report


def test_a_request_without_objects_is_refused(tmp_path: Path, asker: Asker) -> None:
    with Provider(tmp_path / "state") as provider:
        association = asker.associate(provider.scp.port)
        assert ask(association, request()) == 0x0115
        association.release()
        assert provider.requests.unreported() == []


def test_a_report_that_a_peer_brings_reaches_who_waits_for_it(tmp_path: Path) -> None:
    with Provider(tmp_path / "state") as provider:
        transaction = provider.reports.expect()
        peer = AE("PACS")
        peer.add_requested_context(StorageCommitmentPushModel)
        role = build_role(StorageCommitmentPushModel, scp_role=True)
        association = peer.associate("127.0.0.1", provider.scp.port, ae_title="RCMED", ext_neg=[role])
        assert association.is_established
        for uid, status in ((transaction, 0x0000), (generate_uid(), 0x0110)):
            information = request((CTImageStorage, "1.2.3"))
            information.TransactionUID = uid
            answer, _ = association.send_n_event_report(information, 1, StorageCommitmentPushModel, WELL_KNOWN_INSTANCE)
            assert answer.Status == status
        association.release()
        report = provider.reports.wait(transaction, PATIENCE)
        assert report is not None and report.kept == {"1.2.3"}
