"""/proxy/dicom against a peer that notes what reaches it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from fastapi.testclient import TestClient

Make = Callable[..., TestClient]


class Peer:
    def __init__(self) -> None:
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        seen = self.seen

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                seen.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                if "redirect" in self.path:
                    self.send_response(302)
                    self.send_header("Location", "http://127.0.0.1:9/")
                else:
                    self.send_response(200)
                    self.send_header("Content-Type", "application/dicom+json")
                    self.send_header("Set-Cookie", "secret=1")
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"[]")

            do_GET = do_POST = _answer  # noqa: N815

            def log_message(self, *given: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/dicom-web"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.stop()


@pytest.fixture
def relayed(client: TestClient, peer: Peer) -> TestClient:
    """A client of a server whose studies are said to live at the peer."""
    served = client.app.state.monailabel  # type: ignore[attr-defined]
    served.settings = served.settings.model_copy(update={"studies": peer.url})
    return client


def test_what_ohif_asks_reaches_the_peer_with_its_query(relayed: TestClient, peer: Peer) -> None:
    """Stock drops the query."""
    for path in ("qido/studies?limit=2&includefield=00081030", "wado/studies/1.2/series/1.2.3/metadata", "studies"):
        reply = relayed.get(f"/proxy/dicom/{path}", headers={"Accept": "application/dicom+json"})
        assert reply.status_code == 200 and reply.json() == []
        assert reply.headers["content-type"] == "application/dicom+json" and "set-cookie" not in reply.headers
    assert [path for _, path, _, _ in peer.seen] == [
        "/dicom-web/studies?limit=2&includefield=00081030",
        "/dicom-web/studies/1.2/series/1.2.3/metadata",
        "/dicom-web/studies",
    ]


@pytest.mark.parametrize(
    "path",
    [
        "qido/..%2f..%2fsystem",
        "..%2fsystem",
        "studies/..%2f..%2f..%2fsystem",
        "studies/%2e%2e/%2e%2e/tools",
        "tools/execute-script",
        "instances/../system",
        "studies//evil.example",
        "http://evil.example/studies",
        "@evil.example/studies",
        "studies%3f/../..",
        "studies%00",
        "",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.slow
def test_nothing_else_reaches_it(relayed: TestClient, peer: Peer, method: str, path: str) -> None:
    """Stock passes on any path: all of an Orthanc's REST interface, scripts included, was open."""
    reply = relayed.request(method, f"/proxy/dicom/{path}")
    assert reply.status_code in (400, 404, 405)
    assert peer.seen == []


def test_instances_are_stored_and_headers_stay_here(relayed: TestClient, peer: Peer) -> None:
    """Stock passes the client's headers on, its cookies and tokens among them."""
    headers = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=b', "Authorization": "Bearer x"}
    assert relayed.post("/proxy/dicom/stow/studies", content=b"--b--", headers=headers).status_code == 200
    method, path, sent, body = peer.seen[0]
    assert (method, path, body) == ("POST", "/dicom-web/studies", b"--b--")
    assert "authorization" not in sent and sent["content-type"].startswith("multipart/related")
    assert relayed.post("/proxy/dicom/studies/1.2/series", content=b"").status_code == 400
    assert relayed.delete("/proxy/dicom/studies/1.2").status_code == 405


def test_a_redirect_is_not_followed(relayed: TestClient, peer: Peer) -> None:
    assert relayed.get("/proxy/dicom/studies?redirect", follow_redirects=False).status_code == 302


def test_a_peer_that_does_not_answer(client: TestClient) -> None:
    served = client.app.state.monailabel  # type: ignore[attr-defined]
    served.settings = served.settings.model_copy(update={"studies": "http://127.0.0.1:9/dicom-web"})
    reply = client.get("/proxy/dicom/studies")
    assert reply.status_code == 502 and "does not answer" in reply.json()["detail"]
