"""Who asks, and what they may: bearer tokens with pinned algorithms, and roles.

MONAI Label's own check decodes tokens without saying which algorithms it accepts, which fails for every token.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

import httpx
import jwt
from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel

from monailabel_app.settings import AuthenticationSettings
from rcmed.errors import ConfigurationError

logger = logging.getLogger(__name__)

LEEWAY_SECONDS = 30
"""Clocks of the provider and of this machine may differ by so much."""


class Role(StrEnum):
    """MONAI Label's roles; each may what those above it may."""

    USER = "monailabel-user"
    ANNOTATOR = "monailabel-annotator"
    REVIEWER = "monailabel-reviewer"
    ADMIN = "monailabel-admin"


class User(BaseModel):
    """Who asks."""

    username: str
    email: str | None = None
    name: str | None = None
    roles: list[str] = []

    def may(self, role: Role) -> bool:
        """Whether one of the user's roles is this or above it."""
        order = list(Role)
        return any(role_of in self.roles for role_of in order[order.index(role) :])


ANYONE = User(username="anonymous", roles=[str(role) for role in Role])
"""Where authentication is off."""


class Authenticator:
    """Checks bearer tokens."""

    def __init__(self, settings: AuthenticationSettings) -> None:
        """Read the key; of an identity provider nothing is asked before the first token.

        Raises:
            ConfigurationError: the public key can't be read.
        """
        self.settings = settings
        self._key: Any = None
        self._jwks: jwt.PyJWKClient | None = None
        self._algorithms: list[str] = list(settings.algorithms)
        if settings.secret is not None:
            self._key, self._algorithms = settings.secret.get_secret_value(), ["HS256"]
        elif settings.public_key is not None:
            try:
                self._key = settings.public_key.read_text()
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigurationError(f"{settings.public_key}: the public key can't be read: {error}") from None

    @property
    def is_on(self) -> bool:
        """Whether tokens are asked for."""
        return self.settings.mode != "off"

    def user_of(self, token: str) -> User:
        """The user whom a token names.

        Raises:
            HTTPException: 401 with the reason; 503 where the provider can't be asked.
        """
        try:
            claims = jwt.decode(
                token,
                self._signing_key(token),
                algorithms=self._algorithms,
                audience=self.settings.audience,
                issuer=self.settings.issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp"], "verify_aud": self.settings.audience is not None},
            )
        except jwt.PyJWKClientConnectionError:
            raise HTTPException(503, "the identity provider does not answer") from None
        except jwt.InvalidTokenError as error:
            raise unauthorized(f"the token is not accepted: {error}") from None
        except jwt.PyJWKClientError:
            raise unauthorized("the token is not accepted: the provider has no such key") from None
        username = _claim(claims, self.settings.username_claim) or claims.get("sub")
        if not username:
            raise unauthorized(f"the token is not accepted: no {self.settings.username_claim} in it")
        roles = _claim(claims, self.settings.roles_claim)
        return User(
            username=str(username),
            email=claims.get("email"),
            name=claims.get("name"),
            roles=[str(role) for role in roles] if isinstance(roles, list) else [],
        )

    def fetch_token(self, username: str, password: str) -> dict[str, Any]:
        """Ask the provider for a token, for viewers that have a user's name and password only.

        Raises:
            HTTPException: 404 without a provider, 401 where it refuses, 503 where it does not answer.
        """
        if self.settings.mode != "oidc":
            raise HTTPException(404, "tokens are not given out here: ask who runs this server for one")
        try:
            reply = httpx.post(
                str(self._discover()["token_endpoint"]),
                data={
                    "client_id": self.settings.client_id,
                    "username": username,
                    "password": password,
                    "grant_type": "password",
                },
                timeout=self.settings.timeout_seconds,
            )
            content = reply.json()
        except (httpx.HTTPError, ValueError, KeyError):
            raise HTTPException(503, "the identity provider does not answer") from None
        if reply.status_code != 200 or "access_token" not in content:
            raise unauthorized("the identity provider refuses user or password")
        return {"access_token": content["access_token"], "token_type": content.get("token_type", "Bearer")}

    def _signing_key(self, token: str) -> Any:
        if self.settings.mode != "oidc":
            return self._key
        if self._jwks is None:
            try:
                address = str(self._discover()["jwks_uri"])
            except (httpx.HTTPError, ValueError, KeyError):
                raise HTTPException(503, "the identity provider does not answer") from None
            self._jwks = jwt.PyJWKClient(address, timeout=max(1, round(self.settings.timeout_seconds)))
        return self._jwks.get_signing_key_from_jwt(token).key

    def _discover(self) -> dict[str, Any]:
        address = f"{(self.settings.issuer or '').rstrip('/')}/.well-known/openid-configuration"
        reply = httpx.get(address, timeout=self.settings.timeout_seconds)
        reply.raise_for_status()
        content: dict[str, Any] = reply.json()
        return content


def unauthorized(detail: str) -> HTTPException:
    """401 with a challenge (RFC 6750 3)."""
    return HTTPException(401, detail, headers={"WWW-Authenticate": "Bearer"})


def _claim(claims: dict[str, Any], path: str) -> Any:
    value: Any = claims
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


_bearer = HTTPBearer(auto_error=False)


def current_user(
    request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)] = None
) -> User:
    """The user of a request; anyone where authentication is off."""
    authenticator: Authenticator = request.app.state.authenticator
    if not authenticator.is_on:
        return ANYONE
    if given is None:
        raise unauthorized("a bearer token is needed")
    return authenticator.user_of(given.credentials)


def may(role: Role) -> Callable[..., User]:
    """A dependency: the user, where the role allows it."""

    def allowed(user: Annotated[User, Depends(current_user)]) -> User:
        if not user.may(role):
            raise HTTPException(403, f"the role {role} is needed for this")
        return user

    return allowed


AnyUser = Annotated[User, Depends(may(Role.USER))]
Annotator = Annotated[User, Depends(may(Role.ANNOTATOR))]
Admin = Annotated[User, Depends(may(Role.ADMIN))]
