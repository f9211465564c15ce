"""The short way of C-STORE: its bytes are pynetdicom's own, and whatever is odd ends in good order."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEG2000Lossless, MRImageStorage
from pynetdicom import AE, evt
from pynetdicom.dimse_messages import C_STORE_RQ, C_STORE_RSP
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import create_file_meta, encode, encode_file_meta
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.pdu_primitives import P_DATA

from dicom_bridge.ingest.dimse.fragments import Fragments
from dicom_bridge.ingest.dimse.scp import StorageScp
from dicom_bridge.ingest.dimse.store_messages import StoreRequest, _success
from dicom_bridge.ingest.intake import InstanceIntake
from dicom_bridge.settings import ReceiveSettings
from dicom_bridge.store.database import Database
from dicom_bridge.store.files.instance_files import InstanceFiles
from dicom_bridge.store.index import StudyIndex

PATIENCE = 30.0
UIDS = st.from_regex(r"[1-9]{1,4}(\.(0|[1-9][0-9]{0,8})){0,6}", fullmatch=True)


@given(UIDS, st.sampled_from([CTImageStorage, MRImageStorage]), st.integers(0, 65535), st.sampled_from([1, 3, 255]))
def test_success_is_encoded_as_pynetdicom_does(uid: str, sop_class: str, message_id: int, context_id: int) -> None:
    response: Any = C_STORE()
    response.MessageID = response.MessageIDBeingRespondedTo = message_id
    response.AffectedSOPClassUID, response.AffectedSOPInstanceUID, response.Status = sop_class, uid, 0
    message = C_STORE_RSP()
    message.primitive_to_message(response)
    told = P_DATA_TF(next(iter(message.encode_msg(context_id, 131072)))).encode()
    assert _success(StoreRequest(context_id, message_id, sop_class, uid, ExplicitVRLittleEndian)) == told


@given(UIDS, st.sampled_from([ExplicitVRLittleEndian, JPEG2000Lossless]))
def test_file_meta_information_is_encoded_as_pynetdicom_does(uid: str, syntax: str) -> None:
    meta = create_file_meta(
        sop_class_uid=CTImageStorage, sop_instance_uid=pydicom.uid.UID(uid), transfer_syntax=pydicom.uid.UID(syntax)
    )
    told = StoreRequest(1, 1, CTImageStorage, uid, syntax).file_start
    assert told == b"\0" * 128 + b"DICM" + encode_file_meta(meta)


@given(st.lists(st.tuples(st.integers(1, 255), st.integers(0, 3), st.binary(max_size=40)), max_size=4))
def test_fragments_are_those_that_were_sent(items: list[tuple[int, int, bytes]]) -> None:
    primitive: Any = P_DATA()
    primitive.presentation_data_value_list = [
        [context, bytes([control]) + content] for context, control, content in items
    ]
    pdu = bytearray(P_DATA_TF(primitive).encode())
    assert [
        (context, control, bytes(content)) for context, control, content in Fragments(memoryview(pdu)[6:]).items
    ] == items


@pytest.mark.parametrize("body", [b"\0\0\0\5\1", b"\0\0\0\1\1\3", b"\0\0\0\x09\1\3ab", b"\xff\xff\xff\xff\1\3ab"])
def test_lengths_that_do_not_add_up_are_no_fragments(body: bytes) -> None:
    with pytest.raises(ValueError):
        Fragments(body)


@pytest.fixture
def scp(tmp_path: Path) -> Iterator[StorageScp]:
    files = InstanceFiles(tmp_path / "state")
    files.prepare()
    index = StudyIndex(Database(tmp_path / "state" / "index.sqlite"))
    settings = ReceiveSettings(port=0, minimum_free_megabytes=0, maximum_pdu=512)
    scp = StorageScp(settings, InstanceIntake(settings, files, index))
    scp.start()
    yield scp
    scp.stop()


def associate(port: int) -> Any:
    ae = AE("CT01")
    ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    association = ae.associate("127.0.0.1", port)
    assert association.is_established
    return association


def test_many_small_fragments_are_one_instance(scp: StorageScp, make_ct_series: Any) -> None:
    source = pydicom.dcmread(make_ct_series(1)[0])
    association = associate(scp.port)
    assert association.send_c_store(source).Status == 0
    association.release()
    [row] = scp._intake.index.studies()
    [path] = scp._intake.index.instances_of(row.study_uid, source.SeriesInstanceUID).values()
    assert pydicom.dcmread(scp._intake.files.root / path) == source


def encoded_request(association: Any, source: pydicom.Dataset) -> bytes:
    """A C-STORE request as it goes over the connection."""
    context = association.accepted_contexts[0].context_id
    request: Any = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    request.DataSet = BytesIO(encode(source, is_implicit_vr=False, is_little_endian=True) or b"")
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    return b"".join(bytes(P_DATA_TF(part).encode()) for part in message.encode_msg(context, 512))


class Peer:
    """Speaks for an association, byte by byte if need be; only the answers are read by pynetdicom."""

    def __init__(self, port: int) -> None:
        self.association = associate(port)
        self.connection = self.association.dul.socket.socket
        self.answers: queue.Queue[Any] = queue.Queue()
        self.closed = threading.Event()
        self.association.bind(evt.EVT_PDU_RECV, lambda event: self.answers.put(event.pdu))
        self.association.bind(evt.EVT_CONN_CLOSE, lambda event: self.closed.set())


@pytest.mark.parametrize("piece", [1, 5, 7, 511, 4096])
@pytest.mark.slow
def test_a_request_in_pieces_of_any_size_is_taken(scp: StorageScp, make_ct_series: Any, piece: int) -> None:
    source = pydicom.dcmread(make_ct_series(1)[0])
    peer = Peer(scp.port)
    request = encoded_request(peer.association, source)
    for start in range(0, len(request), piece):
        peer.connection.sendall(request[start : start + piece])
    assert isinstance(peer.answers.get(timeout=PATIENCE), P_DATA_TF)
    [path] = scp._intake.index.instances_of(source.StudyInstanceUID, source.SeriesInstanceUID).values()
    assert pydicom.dcmread(scp._intake.files.root / path) == source
    peer.association.release()
    assert peer.association.is_released


@pytest.mark.parametrize("stop_at", [3, 6, 40, -1])
@pytest.mark.slow
def test_who_stops_in_the_middle_and_closes_leaves_nothing(scp: StorageScp, make_ct_series: Any, stop_at: int) -> None:
    source = pydicom.dcmread(make_ct_series(1)[0])
    peer = Peer(scp.port)
    peer.connection.sendall(encoded_request(peer.association, source)[:stop_at])
    peer.connection.shutdown(socket.SHUT_RDWR)
    for thread in threading.enumerate():
        if thread.name.startswith("AcceptorThread"):
            thread.join(PATIENCE)
            assert not thread.is_alive()
    assert scp._intake.index.studies() == []
    assert not [each for each in scp._intake.files.root.rglob("*") if each.suffix in (".dcm", ".part")]


def test_who_pauses_between_two_units_holds_up_no_stop(scp: StorageScp, make_ct_series: Any) -> None:
    source = pydicom.dcmread(make_ct_series(1)[0])
    peer = Peer(scp.port)
    request = encoded_request(peer.association, source)
    first = 6 + int.from_bytes(request[2:6])
    second = first + 6 + int.from_bytes(request[first + 2 : first + 6])
    peer.connection.sendall(request[:second])
    scp.stop()
    assert peer.closed.wait(PATIENCE)


@pytest.mark.slow
def test_who_pauses_within_a_unit_is_closed_in_time(tmp_path: Path, make_ct_series: Any) -> None:
    files = InstanceFiles(tmp_path / "state")
    files.prepare()
    settings = ReceiveSettings(port=0, minimum_free_megabytes=0, maximum_pdu=512, idle_seconds=1.0)
    scp = StorageScp(
        settings, InstanceIntake(settings, files, StudyIndex(Database(tmp_path / "state" / "index.sqlite")))
    )
    scp.start()
    peer = Peer(scp.port)
    peer.connection.sendall(encoded_request(peer.association, pydicom.dcmread(make_ct_series(1)[0]))[:40])
    assert peer.closed.wait(PATIENCE)
    scp.stop()


def test_a_command_within_a_request_aborts_the_association_and_no_other(scp: StorageScp, make_ct_series: Any) -> None:
    source = pydicom.dcmread(make_ct_series(1)[0])
    other, broken = associate(scp.port), associate(scp.port)
    context = broken.accepted_contexts[0].context_id
    request: Any = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    request.DataSet = BytesIO(b"\x08\x00\x05\x00CS\x00\x00")
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    command = next(iter(message.encode_msg(context, 16000)))
    aborted = threading.Event()
    broken.bind(evt.EVT_ABORTED, lambda event: aborted.set())
    for _ in range(2):
        broken.dul.send_pdu(command)
    assert aborted.wait(PATIENCE)
    assert other.send_c_store(source).Status == 0
    other.release()


@pytest.mark.slow
def test_stopping_ends_associations_that_sleep(scp: StorageScp) -> None:
    associations = [associate(scp.port) for _ in range(3)]
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("AcceptorThread")]
    scp.stop()
    deadline = time.monotonic() + PATIENCE
    for thread in threads:
        thread.join(deadline - time.monotonic())
        assert not thread.is_alive()
    for association in associations:
        association.join(PATIENCE)
        assert not association.is_established


def test_a_connection_that_ends_without_a_word_ends_its_association(scp: StorageScp) -> None:
    association = associate(scp.port)
    association.dul.socket.socket.shutdown(socket.SHUT_RDWR)
    for thread in threading.enumerate():
        if thread.name.startswith("AcceptorThread"):
            thread.join(PATIENCE)
            assert not thread.is_alive()
    assert scp.association_count == 0
