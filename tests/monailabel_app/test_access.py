"""Tokens. Stock decodes them without saying which algorithms it accepts: every token fails."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from fastapi.testclient import TestClient

Make = Callable[..., TestClient]
SECRET = "a secret of at least thirty-two bytes"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PUBLIC = KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def claims(*roles: str, **more: Any) -> dict[str, Any]:
    return {
        "exp": int(time.time()) + 600,
        "preferred_username": "somebody",
        "realm_access": {"roles": [f"monailabel-{role}" for role in roles]},
        **more,
    }


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_off_by_default(client: TestClient) -> None:
    assert client.get("/auth/").json()["enabled"] is False
    assert client.get("/info/").status_code == 200


def test_a_signed_token_is_accepted_and_its_roles_count(make_client: Make) -> None:
    client = make_client(authentication={"mode": "jwt", "secret": SECRET})
    assert client.get("/auth/").json()["enabled"] is True
    user = bearer(jwt.encode(claims("user"), SECRET, "HS256"))
    admin = bearer(jwt.encode(claims("admin"), SECRET, "HS256"))
    assert client.get("/auth/token/valid", headers=user).json()["username"] == "somebody"
    assert client.get("/info/", headers=user).status_code == 200
    asked = {"params": '{"prompt": "liver"}'}
    assert client.post("/infer/rcmed?image=ct--body&output=json", data=asked, headers=user).status_code == 200
    refused = client.delete("/datastore/image?id=ct--body", headers=user)
    assert refused.status_code == 403 and "monailabel-admin" in refused.json()["detail"]
    assert client.delete("/datastore/image?id=ct--body", headers=admin).status_code == 200


PROTECTED = (
    ("GET", "/info/"),
    ("POST", "/infer/rcmed?image=ct--body"),
    ("GET", "/datastore/"),
    ("GET", "/datastore/image?image=ct--body"),
    ("PUT", "/session/"),
    ("POST", "/batch/infer/rcmed"),
    ("POST", "/train/"),
    ("POST", "/activelearning/random"),
    ("GET", "/proxy/dicom/studies"),
)


@pytest.mark.parametrize(("method", "path"), PROTECTED)
def test_nothing_is_given_without_a_token(make_client: Make, method: str, path: str) -> None:
    client = make_client(authentication={"mode": "jwt", "secret": SECRET})
    reply = client.request(method, path)
    assert reply.status_code == 401 and reply.headers["www-authenticate"] == "Bearer"


def test_other_tokens_are_refused(make_client: Make, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(PUBLIC)
    settings = {"mode": "jwt", "public_key": str(tmp_path / "key.pem"), "audience": "rcmed", "issuer": "https://idp"}
    client = make_client(authentication=settings)
    right = claims("user", aud="rcmed", iss="https://idp")
    assert client.get("/info/", headers=bearer(jwt.encode(right, KEY, "RS256"))).status_code == 200
    other_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    # The public key taken for the secret of an HMAC (PyJWT refuses to make such a token, so it is made by hand).
    import base64
    import hashlib
    import hmac

    def part(value: bytes) -> str:
        return base64.urlsafe_b64encode(value).rstrip(b"=").decode()

    signed = f"{part(json.dumps({'alg': 'HS256', 'typ': 'JWT'}).encode())}.{part(json.dumps(right).encode())}"
    confused = f"{signed}.{part(hmac.new(PUBLIC, signed.encode(), hashlib.sha256).digest())}"
    wrong = {
        "another key": jwt.encode(right, other_key, "RS256"),
        "no signature": jwt.encode(right, None, "none"),
        "confused": confused,
        "an algorithm that is not pinned": jwt.encode(right, KEY, "RS512"),
        "expired": jwt.encode({**right, "exp": int(time.time()) - 60}, KEY, "RS256"),
        "without an end": jwt.encode({k: v for k, v in right.items() if k != "exp"}, KEY, "RS256"),
        "another audience": jwt.encode({**right, "aud": "other"}, KEY, "RS256"),
        "another issuer": jwt.encode({**right, "iss": "https://evil"}, KEY, "RS256"),
        "nonsense": "nonsense",
    }
    for what, token in wrong.items():
        reply = client.get("/info/", headers=bearer(token))
        assert reply.status_code == 401, what
        assert "not accepted" in reply.json()["detail"]


@pytest.fixture
def provider() -> Iterator[str]:
    """An identity provider: discovery, keys, and tokens for one user."""
    jwk = {**json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(KEY.public_key())), "kid": "one", "use": "sig"}

    class Handler(BaseHTTPRequestHandler):
        def _send(self, status: int, content: Any) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:  # noqa: N802
            if self.path.endswith("openid-configuration"):
                self._send(200, {"jwks_uri": f"{issuer}/keys", "token_endpoint": f"{issuer}/token"})
            else:
                self._send(200, {"keys": [jwk]})

        def do_POST(self) -> None:  # noqa: N802
            form = self.rfile.read(int(self.headers["Content-Length"])).decode()
            if "password=right" not in form:
                self._send(401, {"error": "invalid_grant"})
                return
            token = jwt.encode(claims("user", iss=issuer), KEY, "RS256", headers={"kid": "one"})
            self._send(200, {"access_token": token, "token_type": "Bearer"})

        def log_message(self, *given: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    issuer = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield issuer
    server.shutdown()


def test_an_identity_provider(make_client: Make, provider: str) -> None:
    """As 3D Slicer logs in: user and password for a token, then the token."""
    client = make_client(authentication={"mode": "oidc", "issuer": provider})
    assert client.post("/auth/token", data={"username": "somebody", "password": "wrong"}).status_code == 401
    token = client.post("/auth/token", data={"username": "somebody", "password": "right"}).json()
    headers = {"Authorization": f"{token['token_type']} {token['access_token']}"}
    assert client.get("/info/", headers=headers).status_code == 200
    foreign = jwt.encode(claims("user", iss=provider), KEY, "RS256", headers={"kid": "two"})
    assert client.get("/info/", headers=bearer(foreign)).status_code == 401


def test_a_provider_that_does_not_answer(make_client: Make) -> None:
    client = make_client(authentication={"mode": "oidc", "issuer": "http://127.0.0.1:9", "timeout_seconds": 1})
    token = jwt.encode(claims("user"), KEY, "RS256", headers={"kid": "one"})
    assert client.get("/info/", headers=bearer(token)).status_code == 503
