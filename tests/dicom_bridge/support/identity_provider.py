"""A small OpenID Connect provider: its keys and tokens are real, its only user always agrees."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from typing import Any
from urllib.parse import urlencode

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from fastapi import FastAPI, Form, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response

from dicom_bridge.web.server import WebServer

CLIENT = "rcmed-page"
AUDIENCE = "rcmed"


class IdentityProvider:
    """Listens on loopback; `issuer` is its name."""

    def __init__(self) -> None:
        self.keys: dict[str, rsa.RSAPrivateKey] = {}
        self.rotate("first")
        self.codes: dict[str, dict[str, str]] = {}
        self.roles = ["rcmed"]
        self.requests: list[str] = []
        self.is_down = False
        self.called: str | None = None
        self._server = WebServer(self._application(), "127.0.0.1", 0)

    def __enter__(self) -> IdentityProvider:
        self._server.start()
        self.issuer = f"http://127.0.0.1:{self._server.port}/realm"
        return self

    def __exit__(self, *told: object) -> None:
        self._server.stop()

    def rotate(self, name: str) -> None:
        """From now on sign with a new key, and publish no other."""
        self.keys = {name: rsa.generate_private_key(public_exponent=65537, key_size=2048)}

    def published(self) -> list[dict[str, Any]]:
        return [
            {**json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key())), "kid": name, "use": "sig"}
            for name, key in self.keys.items()
        ]

    def claims(self, **told: Any) -> dict[str, Any]:
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": AUDIENCE, "sub": "u-17", "iat": now, "exp": now + 300}
        claims |= {"realm_access": {"roles": self.roles}, "scope": "openid rcmed.read"}
        return {name: value for name, value in {**claims, **told}.items() if value is not None}

    def token(self, algorithm: str = "RS256", key: Any = None, headers: Any = None, **told: Any) -> str:
        name, own = next(iter(self.keys.items()))
        return jwt.encode(self.claims(**told), key or own, algorithm, headers={"kid": name, **(headers or {})})

    def _application(self) -> FastAPI:
        app = FastAPI()

        @app.middleware("http")
        async def note(request: Request, call_next: Any) -> Response:
            self.requests.append(request.url.path)
            answer: Response = JSONResponse({}, 503) if self.is_down else await call_next(request)
            return answer

        @app.get("/realm/.well-known/openid-configuration")
        def metadata() -> dict[str, Any]:
            return {
                "issuer": self.called or self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/keys",
                "id_token_signing_alg_values_supported": ["RS256"],
            }

        @app.get("/realm/keys")
        def keys() -> dict[str, Any]:
            return {"keys": self.published()}

        @app.get("/realm/authorize")
        def authorize(request: Request) -> Response:
            asked = dict(request.query_params)
            assert asked["client_id"] == CLIENT and asked["response_type"] == "code"
            assert asked["code_challenge_method"] == "S256" and "openid" in asked["scope"].split()
            code = hashlib.sha256(asked["state"].encode()).hexdigest()
            self.codes[code] = asked
            back = urlencode({"code": code, "state": asked["state"]})
            return RedirectResponse(f"{asked['redirect_uri']}?{back}")

        @app.post("/realm/token")
        def token(
            code: str = Form(), code_verifier: str = Form(), redirect_uri: str = Form(), client_id: str = Form()
        ) -> JSONResponse:
            asked = self.codes.pop(code, None)
            digest = base64.urlsafe_b64encode(hashlib.sha256(code_verifier.encode()).digest()).rstrip(b"=").decode()
            sound = asked is not None and digest == asked["code_challenge"] and redirect_uri == asked["redirect_uri"]
            if asked is None or not sound or client_id != CLIENT:
                return JSONResponse({"error": "invalid_grant"}, 400)
            identity = self.token(aud=CLIENT, nonce=asked["nonce"])
            return JSONResponse(
                {"access_token": self.token(), "id_token": identity, "token_type": "Bearer", "expires_in": 300}
            )

        return app
