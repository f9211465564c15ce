"""Delivery: confirmed, refused and sick are three things."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE, evt

from dicom_bridge.delivery import open_destination
from dicom_bridge.delivery.destination import DestinationUnavailableError
from dicom_bridge.delivery.dimse.c_store import CStoreTarget
from dicom_bridge.delivery.dimse.outgoing import read_outgoing
from dicom_bridge.delivery.folder import FolderTarget
from dicom_bridge.settings import CStoreDestination, DeliverySettings, FolderDestination

Peer = Callable[..., CStoreTarget]


@pytest.fixture
def peer() -> Iterator[Peer]:
    servers: list[Any] = []

    def start(
        answer: Callable[[Any], int], sop_class: str = CTImageStorage, syntax: str = ExplicitVRLittleEndian
    ) -> CStoreTarget:
        ae = AE("PACS")
        ae.add_supported_context(sop_class, syntax)
        server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, answer)])
        servers.append(server)
        settings = CStoreDestination(
            type="c_store", host="127.0.0.1", port=server.server_address[1], called_ae="PACS", calling_ae="RCMED"
        )
        return CStoreTarget(settings, timeout_seconds=5)

    from pynetdicom import _config

    unrestricted, _config.UNRESTRICTED_STORAGE_SERVICE = _config.UNRESTRICTED_STORAGE_SERVICE, False
    yield start
    _config.UNRESTRICTED_STORAGE_SERVICE = unrestricted
    for server in servers:
        server.shutdown()


def test_every_object_is_confirmed_as_it_is(peer: Peer, make_ct_series: Any) -> None:
    files = make_ct_series(3)
    received: list[bytes] = []

    def answer(event: Any) -> int:
        received.append(event.encoded_dataset(include_meta=False))
        return 0x0000

    receipt = peer(answer).deliver(files)
    assert set(receipt.delivered) == {pydicom.dcmread(file).SOPInstanceUID for file in files}
    assert receipt.refused == ()
    assert [file.read_bytes()[-len(data) :] for file, data in zip(files, received, strict=True)] == received


def test_a_warning_is_a_success(peer: Peer, make_ct_series: Any) -> None:
    assert len(peer(lambda event: 0xB007).deliver(make_ct_series(1)).delivered) == 1


def test_one_refused_object_does_not_stop_the_others(peer: Peer, make_ct_series: Any) -> None:
    files = make_ct_series(3)
    bad = pydicom.dcmread(files[1]).SOPInstanceUID

    def answer(event: Any) -> int:
        return 0xC123 if event.request.AffectedSOPInstanceUID == bad else 0x0000

    receipt = peer(answer).deliver(files)
    assert len(receipt.delivered) == 2
    assert [(refused.instance_uid, refused.reason) for refused in receipt.refused] == [(bad, "status 0xC123")]


def test_out_of_resources_is_sick(peer: Peer, make_ct_series: Any) -> None:
    def answer(event: Any) -> Dataset:
        status = Dataset()
        status.Status = 0xA700
        status.ErrorComment = "disk full"
        return status  # type: ignore[return-value]

    with pytest.raises(DestinationUnavailableError, match=r"0xA700: disk full"):
        peer(answer).deliver(make_ct_series(1))  # type: ignore[arg-type]


def test_nobody_there_is_sick(make_ct_series: Any) -> None:
    settings = CStoreDestination(type="c_store", host="127.0.0.1", port=1, called_ae="PACS")
    with pytest.raises(DestinationUnavailableError, match="does not answer"):
        CStoreTarget(settings, timeout_seconds=2).deliver(make_ct_series(1))


@pytest.mark.parametrize(
    ("requires", "said"),
    [
        (
            {"require_calling_aet": ["CT01"]},
            r"calling AE title not recognised; it does not know our AE title RCMED: add",
        ),
        ({"require_called_aet": True}, r"called AE title not recognised; it is not called PACS: mend called_ae"),
    ],
)
def test_a_peer_that_rejects_is_quoted(make_ct_series: Any, requires: dict[str, Any], said: str) -> None:
    entity = AE("ARCHIVE")
    entity.add_supported_context(CTImageStorage)
    for name, value in requires.items():
        setattr(entity, name, value)
    server = entity.start_server(("127.0.0.1", 0), block=False)
    try:
        port = server.socket.getsockname()[1]
        settings = CStoreDestination(type="c_store", host="127.0.0.1", port=port, called_ae="PACS", calling_ae="RCMED")
        with pytest.raises(DestinationUnavailableError, match=f"(?i)rejected the association.*{said}"):
            CStoreTarget(settings, timeout_seconds=10).deliver(make_ct_series(1))
    finally:
        server.shutdown()


def test_an_association_that_is_lost_is_sick(peer: Peer, make_ct_series: Any) -> None:
    def answer(event: Any) -> int:
        event.assoc.abort()
        return 0x0000

    with pytest.raises(DestinationUnavailableError, match="lost"):
        peer(answer).deliver(make_ct_series(1))


def test_a_storage_class_that_the_peer_does_not_take_is_refused(peer: Peer, make_ct_series: Any) -> None:
    files = make_ct_series(2)
    other = pydicom.dcmread(files[1])
    other.SOPClassUID = other.file_meta.MediaStorageSOPClassUID = MRImageStorage
    other.save_as(files[1])
    receipt = peer(lambda event: 0x0000).deliver(files)
    assert len(receipt.delivered) == 1
    assert "does not accept the storage class of MR Image Storage" in receipt.refused[0].reason


def test_an_uncompressed_file_is_written_anew_for_a_peer_that_only_takes_the_default(
    peer: Peer, make_ct_series: Any
) -> None:
    files = make_ct_series(1)
    received: list[Dataset] = []

    def answer(event: Any) -> int:
        received.append(event.dataset)
        return 0x0000

    target = peer(answer, syntax=ImplicitVRLittleEndian)
    assert len(target.deliver(files).delivered) == 1
    assert received[0].PixelData == pydicom.dcmread(files[0]).PixelData


def test_a_folder_gets_each_object_once(tmp_path: Path, make_ct_series: Any) -> None:
    files = make_ct_series(2)
    target = open_destination(FolderDestination(type="folder", path=Path("results")), tmp_path, DeliverySettings())
    for _ in range(2):
        receipt = target.deliver(files)
    study = pydicom.dcmread(files[0]).StudyInstanceUID
    kept = sorted((tmp_path / "results" / study).iterdir())
    assert [path.stem for path in kept] == sorted(receipt.delivered)
    assert {path.read_bytes() for path in kept} == {path.read_bytes() for path in files}


def test_a_folder_that_can_not_be_written_is_sick(tmp_path: Path, make_ct_series: Any) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DestinationUnavailableError, match="can't be written"):
        FolderTarget(tmp_path / "file").deliver(make_ct_series(1))


def test_what_is_no_dicom_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(ValueError, match="a.txt: not a DICOM file"):
        read_outgoing(tmp_path / "a.txt")
