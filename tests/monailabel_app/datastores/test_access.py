"""Who we are towards a DICOMweb peer: bearer tokens, limits, and that nothing secret is shown."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from monailabel_app.datastores.dicom.access import PeerAccess, PeerError
from monailabel_app.datastores.dicom.datastore import DicomDatastore
from monailabel_app.datastores.dicom.dicomweb import DicomWeb
from monailabel_app.datastores.opening import open_datastore
from rcmed.errors import ConfigurationError

SERIES = [
    {
        "00080060": {"vr": "CS", "Value": ["XA"]},
        "0020000D": {"vr": "UI", "Value": ["1.2.3"]},
        "0020000E": {"vr": "UI", "Value": ["1.2.3.4"]},
        "00201209": {"vr": "IS", "Value": [1]},
    }
]


class Peer(ThreadingHTTPServer):
    """Answers a search for series to who brings the token; knows no `offset`, as some servers do."""

    token = "first token"
    answer = json.dumps(SERIES).encode()
    seen: list[str | None]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/dicom-web"


class Handler(BaseHTTPRequestHandler):
    server: Peer

    def do_GET(self) -> None:  # noqa: N802 (the base class' name)
        self.server.seen.append(self.headers.get("Authorization"))
        allowed = self.headers.get("Authorization") == f"Bearer {self.server.token}"
        content = self.server.answer if allowed else b"[]"
        self.send_response(200 if allowed else 401)
        self.send_header("Content-Type", "application/dicom+json")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def peer() -> Iterator[Peer]:
    with Peer(("127.0.0.1", 0), Handler) as server:
        server.seen = []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_bearer_token_goes_with_every_request(peer: Peer, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    access = PeerAccess(token="first token")
    store = DicomDatastore(DicomWeb(peer.url, access), tmp_path)
    assert store.list_images() == ["1.2.3.4"]
    assert store.status()["total"] == 1
    assert set(peer.seen) == {"Bearer first token"}
    assert "first token" not in caplog.text + repr(access)


def test_a_renewed_token_is_read_again(peer: Peer, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first token\n")
    archive = DicomWeb(peer.url, PeerAccess(token_file=file))
    assert len(archive.series()) == 1
    peer.token = "second token"
    with pytest.raises(PeerError, match="HTTP 401"):
        archive.series()
    file.write_text("second token")
    assert len(archive.series()) == 1
    file.unlink()
    with pytest.raises(ConfigurationError, match="can't be read"):
        archive.series()


def test_an_answer_beyond_the_limit_is_refused(peer: Peer) -> None:
    peer.answer = b"[" + b" " * 2**20 + b"]"
    with pytest.raises(PeerError, match="larger than the limit"):
        DicomWeb(peer.url, PeerAccess(token="first token", maximum_bytes=2**16)).series()


def test_an_answer_that_is_no_dicom_is_said_to_be_so(peer: Peer) -> None:
    peer.answer = b"<html>"
    with pytest.raises(PeerError, match="no DICOM|does not answer"):
        DicomWeb(peer.url, PeerAccess(token="first token")).series()


def test_a_silent_peer_is_said_to_be_so(tmp_path: Path) -> None:
    with Peer(("127.0.0.1", 0), Handler) as unused:
        url = unused.url
    store = open_datastore(url, tmp_path, PeerAccess())
    with pytest.raises(PeerError, match="does not answer"):
        store.list_images()
    assert store.status()["total"] == 0


def test_the_environment_tells_who_we_are() -> None:
    assert not PeerAccess.from_environment({}).has_credentials
    named = PeerAccess.from_environment({"RCMED_DICOMWEB_USERNAME": "jane", "RCMED_DICOMWEB_PASSWORD": "secret"})
    assert named == PeerAccess("jane", "secret") and "secret" not in repr(named)
    assert PeerAccess.from_environment({"RCMED_DICOMWEB_TOKEN": "t"}).token == "t"


@pytest.mark.parametrize(
    "given", [{"username": "jane"}, {"password": "x"}, {"username": "jane", "password": "x", "token": "t"}]
)
def test_contradictions_are_refused(given: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError):
        PeerAccess(**given)


@pytest.mark.parametrize("url", ["http://jane:secret@127.0.0.1/dicom-web", "ftp://127.0.0.1", "http://"])
def test_an_address_holds_no_credentials(url: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        DicomWeb(url)
    assert "secret" not in str(refused.value)
