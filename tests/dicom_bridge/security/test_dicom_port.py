"""The DICOM port under strangers, garbage, slow peers and large instances: the others are served."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pydicom
import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from dicom_bridge.events.audit import verify
from rcmed import cli

LOOPBACK = "127.0.0.1"


def associate(port: int, calling_ae: str = "CT01", tls: ssl.SSLContext | None = None, called_ae: str = "RCMED") -> Any:
    entity = AE(calling_ae)
    entity.add_requested_context(Verification)
    entity.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    entity.connection_timeout = entity.acse_timeout = entity.dimse_timeout = 30
    return entity.associate(LOOPBACK, port, ae_title=called_ae, tls_args=None if tls is None else (tls, LOOPBACK))


def is_served(port: int, **told: Any) -> bool:
    association = associate(port, **told)
    if not association.is_established:
        return False
    status = association.send_c_echo().get("Status")
    association.release()
    return status == 0x0000


def client(trusted: Any, identity: Any = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=trusted)
    if identity is not None:
        context.load_cert_chain(identity.certificate, identity.key)
    return context


@pytest.fixture
def mutual(certificates: Any) -> dict[str, Any]:
    own = certificates.gateway
    return {"certificate": own.certificate, "key": own.key, "trusted": certificates.trusted}


@pytest.mark.slow
def test_mutual_tls_takes_those_whom_the_hospital_knows(
    receiver_with: Callable[..., Any], certificates: Any, mutual: dict[str, Any], make_ct_series: Any
) -> None:
    receiver = receiver_with(tls=mutual)
    known = client(certificates.trusted, certificates.scanner)
    association = associate(receiver.scp.port, tls=known)
    assert association.is_established
    source = pydicom.dcmread(make_ct_series(1)[0])
    assert association.send_c_store(source).Status == 0x0000
    association.release()
    assert receiver.index.instance_count(source.StudyInstanceUID) == 1
    for stranger in (client(certificates.trusted, certificates.stranger), client(certificates.trusted), None):
        assert not is_served(receiver.scp.port, tls=stranger)
    assert is_served(receiver.scp.port, tls=known)
    assert receiver.counted("rcmed_connections_refused_total") >= 3
    assert verify(receiver.trail) >= 4


@pytest.mark.slow
def test_send_goes_over_tls(
    receiver_with: Callable[..., Any], certificates: Any, mutual: dict[str, Any], make_ct_series: Any
) -> None:
    receiver = receiver_with(tls=mutual)
    files = make_ct_series(2)
    own = certificates.scanner
    command = ["send", str(files[0].parent), "--to", f"{LOOPBACK}:{receiver.scp.port}"]
    tls = ["--trusted", str(certificates.trusted), "--certificate", str(own.certificate), "--key", str(own.key)]
    for arguments, status in ((tls, 0), (tls[:2], 2), (tls[2:], 2), ([], 2)):
        with pytest.raises(SystemExit) as end:
            cli.main([*command, *arguments])
        assert int(end.value.code or 0) == status
    assert receiver.index.instance_count(pydicom.dcmread(files[0]).StudyInstanceUID) == 2


def test_a_peer_is_known_by_its_certificate(
    receiver_with: Callable[..., Any], certificates: Any, mutual: dict[str, Any]
) -> None:
    peer = {"name": "scanner", "certificates": [certificates.scanner.fingerprint]}
    receiver = receiver_with(tls=mutual, peers=[peer])
    assert is_served(receiver.scp.port, tls=client(certificates.trusted, certificates.scanner))
    assert not is_served(receiver.scp.port, tls=client(certificates.trusted, certificates.workstation))
    assert receiver.counted("rcmed_associations_total", peer="scanner", outcome="accepted") == 1
    assert receiver.counted("rcmed_associations_total", peer="unknown", outcome="rejected") == 1


def test_a_peer_is_known_by_its_titles_and_address(receiver_with: Callable[..., Any]) -> None:
    receiver = receiver_with(peers=[{"name": "CT", "calling_ae": ["CT01"], "addresses": ["127.0.0.0/8"]}])
    assert is_served(receiver.scp.port)
    association = associate(receiver.scp.port, calling_ae="CT02")
    assert association.is_rejected
    rejection = association.acceptor.primitive
    assert (rejection.result, rejection.result_source, rejection.diagnostic) == (1, 1, 3)


def test_a_connection_from_elsewhere_is_closed_unread(receiver_with: Callable[..., Any]) -> None:
    receiver = receiver_with(peers=[{"name": "CT", "addresses": ["10.1.3.0/24"]}])
    with socket.create_connection((LOOPBACK, receiver.scp.port), timeout=30) as connection:
        assert connection.recv(1) == b""
    assert receiver.counted("rcmed_connections_refused_total") == 1


def test_another_called_title_is_rejected_where_ours_is_required(receiver_with: Callable[..., Any]) -> None:
    receiver = receiver_with(require_called_ae=True)
    assert is_served(receiver.scp.port)
    association = associate(receiver.scp.port, called_ae="OTHER")
    assert association.is_rejected
    assert association.acceptor.primitive.diagnostic == 7


def test_no_more_associations_than_the_limit(receiver_with: Callable[..., Any]) -> None:
    receiver = receiver_with(maximum_associations=2)
    held = [associate(receiver.scp.port) for _ in range(2)]
    assert all(association.is_established for association in held)
    third = associate(receiver.scp.port)
    assert third.is_rejected
    rejection = third.acceptor.primitive
    assert (rejection.result, rejection.result_source, rejection.diagnostic) == (2, 3, 2)
    for association in held:
        association.release()


GARBAGE = (
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # a TLS hello on a plain port
    bytes(range(256)) * 64,
    struct.pack(">BBL", 1, 0, 0xFFFFFFFF) + b"\0" * 4096,  # an association request of 4 GB
    struct.pack(">BBL", 4, 0, 100) + b"\xff" * 100,  # data before an association
    struct.pack(">BBL", 1, 0, 68) + b"\0" * 68,
)


@pytest.mark.parametrize("secured", [False, True], ids=["plain", "TLS"])
@pytest.mark.slow
def test_garbage_stops_nobody(
    receiver_with: Callable[..., Any], certificates: Any, mutual: dict[str, Any], secured: bool
) -> None:
    receiver = receiver_with(association_seconds=5, **({"tls": mutual} if secured else {}))
    tls = client(certificates.trusted, certificates.scanner) if secured else None
    for garbage in GARBAGE:
        with socket.create_connection((LOOPBACK, receiver.scp.port), timeout=30) as connection:
            connection.sendall(garbage)
            assert is_served(receiver.scp.port, tls=tls)


@pytest.mark.parametrize("secured", [False, True], ids=["plain", "TLS"])
@pytest.mark.slow
def test_peers_that_only_wait_keep_nobody_out(
    receiver_with: Callable[..., Any], certificates: Any, mutual: dict[str, Any], secured: bool
) -> None:
    """More connections than there is room for, each silent or in the middle of its first message."""
    limits = {"maximum_waiting": 4, "maximum_associations": 2, "association_seconds": 60}
    receiver = receiver_with(**limits, **({"tls": mutual} if secured else {}))
    tls = client(certificates.trusted, certificates.scanner) if secured else None
    with ExitStack() as open_ones:
        slow = [
            open_ones.enter_context(socket.create_connection((LOOPBACK, receiver.scp.port), timeout=30))
            for _ in range(12)
        ]
        for connection in slow[::2]:
            connection.sendall(b"\x16\x03" if secured else b"\x01\x00\x00")
        for _ in range(3):
            assert is_served(receiver.scp.port, tls=tls)
        assert slow[0].recv(1) == b""  # the oldest was closed for the others


@pytest.mark.slow
def test_who_does_not_ask_in_time_is_closed(receiver_with: Callable[..., Any]) -> None:
    receiver = receiver_with(association_seconds=0.3)
    with socket.create_connection((LOOPBACK, receiver.scp.port), timeout=30) as connection:
        connection.sendall(b"\x01\x00")
        assert connection.recv(1) == b""
    assert is_served(receiver.scp.port)


def test_a_probe_that_says_nothing_is_no_attempt(
    receiver_with: Callable[..., Any], certificates: Any, mutual: dict[str, Any]
) -> None:
    receiver = receiver_with(tls=mutual)
    for _ in range(3):
        socket.create_connection((LOOPBACK, receiver.scp.port), timeout=30).close()
    assert is_served(receiver.scp.port, tls=client(certificates.trusted, certificates.scanner))
    assert receiver.counted("rcmed_connections_refused_total") == 0
    assert receiver.trail.read_text() == ""


def test_too_large_an_instance_is_refused_and_the_next_is_taken(
    receiver_with: Callable[..., Any], make_ct_series: Any
) -> None:
    receiver = receiver_with(maximum_instance_megabytes=1)
    small, large = (pydicom.dcmread(file) for file in make_ct_series(2))
    large.Rows = large.Columns = 1024
    large.PixelData = b"\1\2" * 1024 * 1024
    association = associate(receiver.scp.port)
    answer = association.send_c_store(large)
    assert answer.Status == 0xC000
    assert "maximum_instance_megabytes" in answer.ErrorComment
    assert association.send_c_store(small).Status == 0x0000
    association.release()
    assert receiver.index.instance_count(small.StudyInstanceUID) == 1
    assert receiver.counted("rcmed_instances_total", source="dimse", outcome="refused") == 1


def test_a_study_has_no_more_instances_than_the_limit(receiver_with: Callable[..., Any], make_ct_series: Any) -> None:
    receiver = receiver_with(maximum_instances_per_study=2)
    sources = [pydicom.dcmread(file) for file in make_ct_series(3)]
    other = pydicom.dcmread(make_ct_series(1)[0])
    association = associate(receiver.scp.port)
    statuses = [association.send_c_store(source).Status for source in [*sources, sources[0], other]]
    association.release()
    assert statuses == [0x0000, 0x0000, 0xC000, 0x0000, 0x0000]  # a duplicate needs no room
