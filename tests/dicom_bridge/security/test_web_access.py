"""The web port: who brings the token, under which name, from which page, over TLS."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter
from fastapi.testclient import TestClient

from dicom_bridge.events.metrics import Metrics
from dicom_bridge.security.tls import server_context
from dicom_bridge.security.token import Token
from dicom_bridge.settings import ServerTlsSettings
from dicom_bridge.web.application import build_application
from dicom_bridge.web.auth import Door
from dicom_bridge.web.probes import operations
from dicom_bridge.web.server import WebServer
from rcmed.errors import ConfigurationError

SECRET = "s" * 16 + ":!=/" + "t" * 16


def application(token: Token | None = None, **told: Any) -> Any:
    router = APIRouter()

    @router.post("/change")
    def change() -> str:
        return "changed"

    health = operations(lambda: {"disk": "ok"}, Metrics())
    return build_application([health, router], Door(token), **told)


@pytest.fixture
def refused() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def guarded(refused: list[tuple[str, str]]) -> TestClient:
    return TestClient(application(Token(SECRET), on_refused=lambda *told: refused.append(told)), "http://127.0.0.1")


def test_the_token_opens_as_bearer_and_as_password(guarded: TestClient) -> None:
    bearer = {"Authorization": f"Bearer {SECRET}"}
    assert guarded.get("/metrics", headers=bearer).status_code == 200
    assert guarded.get("/metrics", auth=("anyone", SECRET)).status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        None,
        "Bearer wrong",
        f"Digest {SECRET[:8]}",
        "Basic !!!",
        "Basic YTpi",
        "Basic /w==",
        "Bearer",
        "",
        "Bearer \xfc",
    ],
)
def test_without_the_token_nothing_is_told(
    guarded: TestClient, refused: list[tuple[str, str]], header: str | None
) -> None:
    headers = {} if header is None else {"Authorization": header.encode("latin-1")}
    for path in ("/metrics", "/", "/nothing"):
        answer = guarded.get(path, headers=headers)  # in Latin-1, as HTTP has it
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Basic")
    assert len(refused) == (3 if header else 0)  # the first request of a browser is no attempt
    assert guarded.post("/change", headers=headers).status_code == 401


def test_health_is_told_to_all_and_its_parts_to_those_with_the_token(guarded: TestClient) -> None:
    assert guarded.get("/healthz").json() == {"status": "ok"}
    known = guarded.get("/healthz", auth=("anyone", SECRET)).json()
    assert known == {"status": "ok", "parts": {"disk": "ok"}}


def test_another_page_can_not_use_the_password_that_the_browser_remembers(guarded: TestClient) -> None:
    auth = ("anyone", SECRET)
    assert guarded.post("/change", auth=auth).status_code == 200
    assert guarded.post("/change", auth=auth, headers={"Origin": "http://127.0.0.1"}).status_code == 200
    for origin in ("http://evil.example", "null", "http://127.0.0.1.evil.example"):
        assert guarded.post("/change", auth=auth, headers={"Origin": origin}).status_code == 403


def test_only_its_own_names_are_answered() -> None:
    client = TestClient(application(host_names=["rcmed.hospital.example"]), "http://127.0.0.1")
    assert client.get("/healthz", headers={"Host": "rcmed.hospital.example"}).status_code == 200
    assert client.get("/healthz", headers={"Host": "evil.example"}).status_code == 400


def test_a_short_or_missing_secret_is_told_with_its_key(tmp_path: Path) -> None:
    (tmp_path / "short").write_text("secret\n")
    (tmp_path / "odd").write_text("ü" * 40)
    for name, told in (("short", "fewer than 32"), ("missing", "can't be read"), ("odd", "ASCII")):
        with pytest.raises(ConfigurationError, match=rf"web\.token_file: .*{name}.*{told}.*openssl"):
            Token.from_file(tmp_path / name)
    (tmp_path / "long").write_text(f"  {SECRET}\n")
    assert Token.from_file(tmp_path / "long").is_in(f"Bearer {SECRET}")


def test_mutual_tls_on_the_web_port(certificates: Any) -> None:
    own = certificates.gateway
    settings = ServerTlsSettings(certificate=own.certificate, key=own.key, trusted=certificates.trusted)
    server = WebServer(application(), "127.0.0.1", 0, server_context(settings, "web.tls"))
    server.start()
    try:
        address = f"https://127.0.0.1:{server.port}/healthz"
        known = ssl.create_default_context(cafile=certificates.trusted)
        known.load_cert_chain(certificates.workstation.certificate, certificates.workstation.key)
        assert httpx.get(address, verify=known).json()["status"] == "ok"
        with pytest.raises(httpx.TransportError):
            httpx.get(address, verify=ssl.create_default_context(cafile=certificates.trusted))
        with pytest.raises(httpx.TransportError):
            httpx.get(address.replace("https", "http"))
    finally:
        server.stop()


def test_files_that_are_no_certificates_are_told_with_their_key(tmp_path: Path, certificates: Any) -> None:
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    own = certificates.gateway
    other = certificates.scanner
    for told, text in (
        ({"certificate": tmp_path / "x.pem", "key": own.key}, r"web\.tls\.certificate: .*x\.pem can't be read"),
        ({"certificate": nonsense, "key": own.key}, r"web\.tls: .*nonsense\.pem"),
        ({"certificate": own.certificate, "key": other.key}, "KEY_VALUES_MISMATCH"),
        ({"certificate": own.certificate, "key": own.key, "trusted": nonsense}, r"web\.tls\.trusted: .*nonsense"),
    ):
        with pytest.raises(ConfigurationError, match=text):
            server_context(ServerTlsSettings(**told), "web.tls")
