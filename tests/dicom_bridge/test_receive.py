"""Receiving through a real association of pynetdicom: what is answered is true."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pydicom
import pytest
from pydicom.uid import CTImageStorage, DeflatedExplicitVRLittleEndian, JPEG2000Lossless
from pynetdicom import AE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]
from sqlalchemy.exc import OperationalError

from dicom_bridge.ingest.dimse.scp import StorageScp
from dicom_bridge.ingest.intake import InstanceIntake
from dicom_bridge.settings import ReceiveSettings
from dicom_bridge.store.database import Database
from dicom_bridge.store.files.instance_files import InstanceFiles
from dicom_bridge.store.index import StudyIndex


class Receiver(SimpleNamespace):
    """A running SCP with its parts."""

    scp: StorageScp
    intake: InstanceIntake
    files: InstanceFiles
    index: StudyIndex
    changed: threading.Event


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    files = InstanceFiles(tmp_path / "state")
    files.prepare()
    index = StudyIndex(Database(tmp_path / "state" / "index.sqlite"))
    changed = threading.Event()
    settings = ReceiveSettings(port=0, minimum_free_megabytes=0)
    intake = InstanceIntake(settings, files, index, changed.set)
    scp = StorageScp(settings, intake, on_change=changed.set)
    scp.start()
    yield Receiver(scp=scp, files=files, index=index, intake=intake, changed=changed)
    scp.stop()


def associate(port: int, *contexts: tuple[str, str]) -> Any:
    ae = AE("CT01")
    ae.add_requested_context(Verification)
    for abstract_syntax, transfer_syntax in contexts:
        ae.add_requested_context(abstract_syntax, transfer_syntax)
    association = ae.associate("127.0.0.1", port, ae_title="RCMED")
    assert association.is_established
    return association


def send(port: int, *datasets: pydicom.Dataset) -> list[int]:
    contexts = {
        (d.file_meta.get("MediaStorageSOPClassUID", d.SOPClassUID), d.file_meta.TransferSyntaxUID) for d in datasets
    }
    association = associate(port, *contexts)
    statuses = [association.send_c_store(dataset).Status for dataset in datasets]
    association.release()
    return statuses


def test_echo(receiver: Receiver) -> None:
    association = associate(receiver.scp.port)
    assert association.send_c_echo().Status == 0x0000
    association.release()


def test_instances_are_on_disk_and_in_the_index(receiver: Receiver, make_ct_series: Any) -> None:
    sources = [pydicom.dcmread(path) for path in make_ct_series(3)]
    assert send(receiver.scp.port, *sources) == [0, 0, 0]
    study, series = sources[0].StudyInstanceUID, sources[0].SeriesInstanceUID
    kept = receiver.index.instances_of(study, series)
    assert set(kept) == {source.SOPInstanceUID for source in sources}
    for source in sources:
        stored = pydicom.dcmread(receiver.files.root / kept[source.SOPInstanceUID])
        assert stored == source
        assert stored.file_meta.TransferSyntaxUID == source.file_meta.TransferSyntaxUID
    facts = receiver.index.series_of(study)[0][1]
    assert (facts.modality, facts.body_part, facts.calling_ae, facts.called_ae) == ("CT", "ABDOMEN", "CT01", "RCMED")
    assert facts.study_description == "Synthetic abdomen"
    assert list((receiver.files.root / "incoming").iterdir()) == []


def test_the_end_of_the_association_is_recorded(receiver: Receiver, make_ct_series: Any) -> None:
    source = pydicom.dcmread(make_ct_series(1)[0])
    association = associate(receiver.scp.port, (source.SOPClassUID, source.file_meta.TransferSyntaxUID))
    association.send_c_store(source)
    assert receiver.index.arrivals(source.StudyInstanceUID)[0].released_at is None
    receiver.changed.clear()
    association.abort()
    assert receiver.changed.wait(10)
    (arrival,) = receiver.index.arrivals(source.StudyInstanceUID)
    assert arrival.released_at is not None and arrival.is_aborted
    (line,) = receiver.index.lines(source.StudyInstanceUID)
    assert line.text == "CT01 aborted its association after 1 instances; more may be missing"


@pytest.mark.parametrize("ending", ["release", "release and close", "close"])
@pytest.mark.slow
def test_how_an_association_ended_is_known(receiver: Receiver, make_ct_series: Any, ending: str) -> None:
    for _ in range(5):  # the connection closes while the release is answered: now the one is seen first, now the other
        source = pydicom.dcmread(make_ct_series(1)[0])
        association = associate(receiver.scp.port, (source.SOPClassUID, source.file_meta.TransferSyntaxUID))
        association.send_c_store(source)
        receiver.changed.clear()
        if ending == "release":
            association.release()
        else:
            if ending == "release and close":
                connection = association.dul.socket.socket
                connection.sendall(bytes.fromhex("05000000000400000000"))
            association.dul.socket.close()
        assert receiver.changed.wait(10)
        (arrival,) = receiver.index.arrivals(source.StudyInstanceUID)
        assert arrival.is_aborted is (ending == "close")


def test_a_duplicate_is_stored_once_and_the_first_is_kept(receiver: Receiver, make_ct_series: Any) -> None:
    source = pydicom.dcmread(make_ct_series(1)[0])
    other = pydicom.dcmread(make_ct_series(1, source.StudyInstanceUID, source.SeriesInstanceUID)[0])
    other.SeriesDescription = "changed"
    assert send(receiver.scp.port, source, source, other) == [0, 0, 0]
    assert receiver.index.instance_count(source.StudyInstanceUID) == 1
    path = next(iter(receiver.index.instances_of(source.StudyInstanceUID, source.SeriesInstanceUID).values()))
    assert pydicom.dcmread(receiver.files.root / path).SeriesDescription == "Square 2.5"
    assert [line.level for line in receiver.index.lines()] == ["warning"]


@pytest.mark.parametrize("transfer_syntax", [JPEG2000Lossless, DeflatedExplicitVRLittleEndian])
@pytest.mark.slow
def test_bytes_are_kept_as_they_were_encoded(receiver: Receiver, make_ct_series: Any, transfer_syntax: str) -> None:
    """Compressed and deflated transfer syntaxes in a private storage class: nothing is decoded."""
    source = pydicom.dcmread(make_ct_series(1)[0])
    source.SOPClassUID = source.file_meta.MediaStorageSOPClassUID = "1.3.12.2.1107.5.9.1"
    if transfer_syntax == JPEG2000Lossless:
        source.compress(JPEG2000Lossless, generate_instance_uid=False)
    association = associate(receiver.scp.port, (source.SOPClassUID, transfer_syntax))
    source.file_meta.TransferSyntaxUID = transfer_syntax
    assert association.send_c_store(source).Status == 0
    association.release()
    path = next(iter(receiver.index.instances_of(source.StudyInstanceUID, source.SeriesInstanceUID).values()))
    stored = pydicom.dcmread(receiver.files.root / path)
    assert stored.file_meta.TransferSyntaxUID == transfer_syntax
    assert stored.SOPClassUID == source.SOPClassUID
    assert stored.PixelData == source.PixelData


@pytest.mark.parametrize(
    ("keyword", "value", "status"),
    [
        ("StudyInstanceUID", None, 0xC000),
        ("SeriesInstanceUID", "../../etc", 0xC000),
        ("SOPInstanceUID", "1.2.826.0.1.3680043.8.498.1", 0xC000),
        ("SOPClassUID", "1.2.840.10008.5.1.4.1.1.4", 0xA900),
    ],
)
@pytest.mark.slow
def test_unusable_instances_are_refused_with_a_line(
    receiver: Receiver, make_ct_series: Any, keyword: str, value: str | None, status: int
) -> None:
    source = pydicom.dcmread(make_ct_series(1)[0])
    association = associate(receiver.scp.port, (source.SOPClassUID, source.file_meta.TransferSyntaxUID))
    if value is None:
        delattr(source, keyword)
    else:
        with pydicom.config.disable_value_validation():
            setattr(source, keyword, value)
    answer = send_encoded(association, source)
    association.release()
    assert answer.Status == status
    lines = receiver.index.lines()
    assert len(lines) == 1
    assert f"0x{status:04X}" in lines[0].text
    assert str(pydicom.tag.Tag(keyword))[1:5] in lines[0].text
    assert receiver.index.studies() == []
    assert list((receiver.files.root / "instances").iterdir()) == []


def send_encoded(association: Any, source: pydicom.Dataset) -> pydicom.Dataset:
    """Send a data set whose content contradicts the request, as a broken peer would."""
    from io import BytesIO

    from pynetdicom.dimse_primitives import C_STORE
    from pynetdicom.dsutils import encode

    request = C_STORE()
    request.MessageID = 1
    request.AffectedSOPClassUID = CTImageStorage
    request.AffectedSOPInstanceUID = source.file_meta.MediaStorageSOPInstanceUID
    request.Priority = 2
    with pydicom.config.disable_value_validation():
        request.DataSet = BytesIO(encode(source, False, True) or b"")
    context = next(c for c in association.accepted_contexts if c.abstract_syntax == CTImageStorage)
    association._reactor_checkpoint.clear()
    association.dimse.send_msg(request, context.context_id)
    _, answer = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    return answer  # type: ignore[no-any-return]


def test_low_disk_is_answered_out_of_resources(
    receiver: Receiver, make_ct_series: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = pydicom.dcmread(make_ct_series(1)[0])
    monkeypatch.setattr(receiver.intake, "limits", ReceiveSettings(minimum_free_megabytes=10**9))
    assert send(receiver.scp.port, source) == [0xA700]
    monkeypatch.setattr(receiver.intake, "limits", ReceiveSettings(minimum_free_megabytes=0))
    assert send(receiver.scp.port, source) == [0]


@pytest.mark.parametrize("broken", ["disk", "index"])
@pytest.mark.slow
def test_what_can_not_be_made_durable_is_not_acknowledged(
    receiver: Receiver, make_ct_series: Any, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def disk_full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    def database_full(*args: Any) -> None:
        raise OperationalError("INSERT", {}, Exception("database or disk is full"))

    source = pydicom.dcmread(make_ct_series(1)[0])
    with monkeypatch.context() as patch:
        if broken == "disk":
            patch.setattr(receiver.files, "put", disk_full)
        else:
            patch.setattr(receiver.index, "record_instances", database_full)
        assert send(receiver.scp.port, source) == [0xA700]
    assert receiver.index.instance_count(source.StudyInstanceUID) == 0
    assert "full" in receiver.index.lines()[0].text or "space" in receiver.index.lines()[0].text
    assert send(receiver.scp.port, source) == [0]
    assert receiver.index.instance_count(source.StudyInstanceUID) == 1


def test_several_associations_at_once(receiver: Receiver, make_ct_series: Any) -> None:
    series = [[pydicom.dcmread(path) for path in make_ct_series(5)] for _ in range(4)]
    results: list[list[int]] = []
    threads = [threading.Thread(target=lambda s=s: results.append(send(receiver.scp.port, *s))) for s in series]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == [[0] * 5] * 4
    assert len(receiver.index.studies()) == 4
    assert sum(receiver.index.instance_count(row.study_uid) for row in receiver.index.studies()) == 20
