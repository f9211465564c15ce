"""OpenID Connect on the web port: tokens of programs, and browsers that log in."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fastapi import APIRouter, Request
from fastapi.testclient import TestClient
from pydantic import ValidationError

from dicom_bridge.events.metrics import Metrics
from dicom_bridge.events.sink import Observer
from dicom_bridge.operations.doctor import examine
from dicom_bridge.security.oidc import (
    PAUSE_SECONDS,
    STALE_SECONDS,
    OidcTokens,
    Provider,
    ProviderUnavailableError,
    RefusedTokenError,
)
from dicom_bridge.settings import GatewaySettings, OidcSettings, WebSettings
from dicom_bridge.web.application import build_application
from dicom_bridge.web.auth import open_door
from dicom_bridge.web.probes import operations
from identity_provider import AUDIENCE, CLIENT, IdentityProvider

SECRET = "s" * 40


@pytest.fixture
def provider() -> Iterator[IdentityProvider]:
    with IdentityProvider() as running:
        yield running


class Heard(Observer):
    def __init__(self) -> None:
        super().__init__()
        self.logins: list[str] = []
        self.refused: list[str] = []

    def logged_in(self, address: str, subject: str) -> None:
        self.logins.append(subject)

    def request_refused(self, address: str, path: str) -> None:
        self.refused.append(path)


@pytest.fixture
def heard() -> Heard:
    return Heard()


def settings(provider: IdentityProvider, **told: Any) -> OidcSettings:
    return OidcSettings.model_validate({"issuer": provider.issuer, "audience": AUDIENCE, "leeway_seconds": 0, **told})


def client_of(application: Any, base_url: str = "http://127.0.0.1", **options: Any) -> TestClient:
    return TestClient(application, base_url, **options)


def page(provider: IdentityProvider, heard: Heard | None = None, token_file: Path | None = None, **told: Any) -> Any:
    web = WebSettings(oidc=settings(provider, **told), token_file=token_file)
    observer = heard or Heard()
    router = APIRouter()

    @router.get("/who")
    def who(request: Request) -> dict[str, Any]:
        return {"user": request.state.user, "logged in": request.state.is_logged_in}

    parts = [operations(lambda: {"disk": "ok"}, Metrics()), router]
    return build_application(parts, open_door(web, observer), (), observer.request_refused)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


# programs


def test_a_program_brings_an_access_token(provider: IdentityProvider) -> None:
    client = client_of(page(provider, required_claim="realm_access.roles", required_value="rcmed"))
    assert client.get("/metrics", headers=bearer(provider.token())).status_code == 200
    assert client.get("/healthz", headers=bearer(provider.token())).json()["parts"] == {"disk": "ok"}
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/who", headers=bearer(provider.token())).json() == {"user": "u-17", "logged in": False}
    answer = client.get("/metrics")
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, 'Bearer realm="RCMed gateway"')
    for algorithm in ("PS256",):
        assert client.get("/metrics", headers=bearer(provider.token(algorithm))).status_code == 200
    assert provider.requests.count("/realm/keys") == 1  # they are remembered


def unsigned(provider: IdentityProvider) -> str:
    return jwt.encode(provider.claims(), None, "none", headers={"kid": "first"})


def signed_with_the_public_key(provider: IdentityProvider) -> str:
    """HS256 with what everyone knows as the secret; libraries refuse to make it, so it is made by hand."""
    import hashlib
    import hmac

    def part(told: dict[str, Any]) -> bytes:
        return base64.urlsafe_b64encode(json.dumps(told).encode()).rstrip(b"=")

    public = next(iter(provider.keys.values())).public_key()
    secret = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    content = part({"alg": "HS256", "typ": "JWT", "kid": "first"}) + b"." + part(provider.claims())
    signature = base64.urlsafe_b64encode(hmac.new(secret, content, hashlib.sha256).digest()).rstrip(b"=")
    return (content + b"." + signature).decode()


def signed_by_another(provider: IdentityProvider) -> str:
    return provider.token(key=rsa.generate_private_key(public_exponent=65537, key_size=2048))


def altered(provider: IdentityProvider) -> str:
    header, _, signature = provider.token().split(".")
    claims = json.dumps(provider.claims(sub="someone-else")).encode()
    return f"{header}.{base64.urlsafe_b64encode(claims).rstrip(b'=').decode()}.{signature}"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda provider: provider.token(aud="another"), "Audience"),
        (lambda provider: provider.token(aud=None), "aud"),
        (lambda provider: provider.token(iss="https://evil.example"), "issuer"),
        (lambda provider: provider.token(exp=int(time.time()) - 1), "expired"),
        (lambda provider: provider.token(exp=None), "exp"),
        (lambda provider: provider.token(sub=None), "sub"),
        (lambda provider: provider.token(nbf=int(time.time()) + 60), "not yet valid"),
        (lambda provider: provider.token("RS512"), "algorithms"),
        (lambda provider: provider.token(headers={"kid": "unknown"}), "no such key"),
        (unsigned, "algorithms"),
        (signed_with_the_public_key, "algorithms"),
        (signed_by_another, "ignature"),
        (altered, "ignature"),
        (lambda provider: "a.b.c", ""),
        (lambda provider: "..", ""),
    ],
)
def test_a_token_that_is_not_sound_is_refused(provider: IdentityProvider, heard: Heard, make: Any, reason: str) -> None:
    answer = client_of(page(provider, heard)).get("/metrics", headers=bearer(make(provider)))
    assert answer.status_code == 401
    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]
    assert reason in answer.text
    assert heard.refused == ["/metrics"]


@pytest.mark.parametrize(
    ("claim", "value", "status"),
    [
        ("realm_access.roles", "rcmed", 200),
        ("realm_access.roles", "admin", 403),
        ("realm_access.roles", "rc", 403),
        ("scope", "rcmed.read", 200),
        ("scope", "rcmed", 403),
        ("nowhere.at.all", "rcmed", 403),
        ("exp", "rcmed", 403),
    ],
)
def test_the_claim_that_is_asked_for(provider: IdentityProvider, claim: str, value: str, status: int) -> None:
    client = client_of(page(provider, required_claim=claim, required_value=value))
    assert client.get("/metrics", headers=bearer(provider.token())).status_code == status


def test_a_rotated_key_is_fetched_and_the_old_one_forgotten(provider: IdentityProvider) -> None:
    now = 1000.0
    told = settings(provider)
    tokens = OidcTokens(told, Provider(told, lambda: now))
    old = provider.token()
    assert tokens.admit(old)["sub"] == "u-17"
    provider.rotate("second")
    with pytest.raises(RefusedTokenError, match="no such key"):
        tokens.admit(provider.token())  # asked a moment ago
    before = len(provider.requests)
    for number in range(20):
        with pytest.raises(RefusedTokenError):
            tokens.admit(provider.token(headers={"kid": f"made up {number}"}))
    assert len(provider.requests) == before  # nobody makes us flood the provider
    now += PAUSE_SECONDS
    assert tokens.admit(provider.token())["sub"] == "u-17"
    with pytest.raises(RefusedTokenError, match="no such key"):
        tokens.admit(old)


def test_known_keys_are_used_for_a_day_while_the_provider_is_down(provider: IdentityProvider) -> None:
    now = 1000.0
    told = settings(provider)
    tokens = OidcTokens(told, Provider(told, lambda: now))
    token = provider.token()
    tokens.admit(token)
    provider.is_down = True
    now += STALE_SECONDS - 1
    assert tokens.admit(token)
    now += PAUSE_SECONDS + 1
    with pytest.raises(ProviderUnavailableError):
        tokens.admit(token)
    provider.is_down = False
    now += PAUSE_SECONDS
    assert tokens.admit(token)


def test_a_provider_that_is_down_or_another_one_is_answered_503(provider: IdentityProvider) -> None:
    provider.is_down = True
    client = client_of(page(provider, client_id=CLIENT), follow_redirects=False)
    assert client.get("/metrics", headers=bearer(provider.token())).status_code == 503
    assert client.get("/login").status_code == 503
    provider.is_down = False
    provider.called = "https://evil.example"
    assert client_of(page(provider)).get("/metrics", headers=bearer(provider.token())).status_code == 503


def test_the_shared_token_goes_on_beside_it(provider: IdentityProvider, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(SECRET)
    client = client_of(page(provider, token_file=file))
    assert client.get("/metrics", headers=bearer(SECRET)).status_code == 200
    assert client.get("/metrics", headers=bearer(provider.token())).status_code == 200
    assert client.get("/metrics", headers=bearer("x" * 40)).status_code == 401


# browsers

HTML = {"Accept": "text/html,application/xhtml+xml"}


def log_in(client: TestClient, path: str = "/metrics") -> tuple[httpx.Response, httpx.Response]:
    """As a browser does it; returns the provider's and our last answer."""
    sent = client.get(path, headers=HTML)
    assert (sent.status_code, urlsplit(sent.headers["location"]).path) == (303, "/login")
    away = client.get(sent.headers["location"])
    assert away.status_code == 302
    agreed = httpx.get(away.headers["location"])
    back = urlsplit(agreed.headers["location"])
    assert (back.netloc, back.path) == ("127.0.0.1", "/login/return")
    return agreed, client.get(f"{back.path}?{back.query}")


def test_a_browser_logs_in_and_out(provider: IdentityProvider, heard: Heard) -> None:
    client = client_of(page(provider, heard, client_id=CLIENT), follow_redirects=False)
    _, answer = log_in(client)
    assert (answer.status_code, answer.headers["location"]) == (303, "/metrics")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=lax" in cookie and "path=/" in cookie
    assert client.get("/metrics", headers=HTML).status_code == 200
    assert client.get("/who").json() == {"user": "u-17", "logged in": True}
    assert heard.logins == ["u-17"] and heard.refused == []
    assert client.post("/logout", headers={"Origin": "http://evil.example"}).status_code == 403
    assert client.post("/logout").status_code == 200
    assert client.get("/metrics", headers=HTML).status_code == 303


def test_the_cookie_goes_over_https_only_where_browsers_come_by_it(provider: IdentityProvider) -> None:
    told = page(provider, client_id=CLIENT, public_url="https://127.0.0.1")
    client = client_of(told, base_url="https://127.0.0.1", follow_redirects=False)
    _, answer = log_in(client)
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-rcmed=") and "; secure" in cookie.lower()
    assert next(iter(client.cookies)).startswith("__Host-")
    assert client.get("/metrics", headers=HTML).status_code == 200


def test_a_cookie_that_was_made_up_or_is_old_opens_nothing(
    provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_up = base64.b64encode(json.dumps({"until": time.time() + 1000}).encode()).decode()
    client = client_of(page(provider, client_id=CLIENT), follow_redirects=False)
    for cookie in (made_up, f"{made_up}.aaaa.bbbb"):
        assert client.get("/metrics", headers={"Cookie": f"rcmed={cookie}"}).status_code == 401
    log_in(client)
    later = time.time() + 8 * 3600 + 1
    monkeypatch.setattr("dicom_bridge.web.login.time.time", lambda: later)
    assert client.get("/metrics").status_code == 401


def test_a_log_in_that_was_not_begun_here_is_refused(provider: IdentityProvider, heard: Heard) -> None:
    client = client_of(page(provider, heard, client_id=CLIENT), follow_redirects=False)
    agreed, answer = log_in(client)
    back = urlsplit(agreed.headers["location"])
    again = client.get(f"{back.path}?{back.query}")  # the same once more
    assert again.status_code == 401
    stranger = client_of(page(provider, heard, client_id=CLIENT), follow_redirects=False)
    assert stranger.get(f"{back.path}?{back.query}").status_code == 401
    assert stranger.get("/login/return?error=access_denied&error_description=no").status_code == 401
    assert heard.refused == ["/login/return"] * 3
    assert len(heard.logins) == 1


def test_a_user_without_the_role_is_not_let_in(provider: IdentityProvider, heard: Heard) -> None:
    provider.roles = ["visitor"]
    told = page(provider, heard, client_id=CLIENT, required_claim="realm_access.roles", required_value="rcmed")
    client = client_of(told, follow_redirects=False)
    _, answer = log_in(client)
    assert answer.status_code == 403 and heard.logins == []
    assert client.get("/metrics", headers=HTML).status_code == 303


@pytest.mark.parametrize(
    "wanted", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"]
)
def test_after_the_log_in_it_goes_to_our_own_pages_only(provider: IdentityProvider, wanted: str) -> None:
    client = client_of(page(provider, client_id=CLIENT), follow_redirects=False)
    away = client.get("/login", params={"next": wanted})
    back = urlsplit(httpx.get(away.headers["location"]).headers["location"])
    assert client.get(f"{back.path}?{back.query}").headers["location"] == "/"


# settings


@pytest.mark.parametrize(
    "told",
    [
        {"issuer": "http://login.example", "audience": "a"},
        {"issuer": "https://login.example", "audience": "a", "algorithms": ["HS256"]},
        {"issuer": "https://login.example", "audience": "a", "algorithms": ["none"]},
        {"issuer": "https://login.example", "audience": "a", "algorithms": []},
        {"issuer": "https://login.example", "audience": "a", "required_claim": "roles"},
        {"issuer": "https://login.example", "audience": "a", "client_secret_file": "s"},
        {"issuer": "https://login.example"},
    ],
)
def test_settings_that_are_not_sound_are_refused(told: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        OidcSettings.model_validate(told)


def test_the_doctor_asks_the_provider(provider: IdentityProvider, tmp_path: Path) -> None:
    def told() -> str:
        web = {"port": 0, "oidc": settings(provider).model_dump()}
        found = GatewaySettings.model_validate({"state_folder": str(tmp_path), "web": web})
        return next(f"{check.verdict}: {check.text}" for check in examine(found) if check.about == "web.oidc")

    assert told() == f"ok: {provider.issuer} answers"
    provider.is_down = True
    assert told().startswith("wrong: ") and "does not answer" in told()
