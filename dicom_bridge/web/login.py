"""Log-in of browsers at the identity provider: authorization code with PKCE (RFC 7636), then a signed cookie.

The cookie says who logged in and until when; it holds no token. Its key is made at each start, so a restart asks the
provider again, which remembers its user.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from authlib.integrations.starlette_client import OAuth
from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from dicom_bridge.security.oidc import (
    ForbiddenError,
    OidcTokens,
    Provider,
    ProviderUnavailableError,
    RefusedTokenError,
)
from dicom_bridge.security.secret_file import read_secret
from dicom_bridge.settings import OidcSettings

_LOG = logging.getLogger(__name__)
LOGIN, RETURN, LOGOUT = "/login", "/login/return", "/logout"


class Login:
    """Sessions of browsers."""

    paths = (LOGIN, RETURN, LOGOUT)

    def __init__(
        self,
        settings: OidcSettings,
        provider: Provider,
        tokens: OidcTokens,
        is_https: bool,
        on_login: Callable[[str, str], None] = lambda address, subject: None,
        on_refused: Callable[[str, str], None] = lambda address, path: None,
    ) -> None:
        """Prepare.

        Args:
            settings: with `client_id`.
            provider: where browsers are sent to.
            tokens: checks what it says of them.
            is_https: whether browsers reach us by HTTPS; the cookie then never goes over anything else.
            on_login, on_refused: take address and subject, or address and path.
        Raises:
            ConfigurationError: the client's secret can't be read.
        """
        secret = settings.client_secret_file
        self._settings = settings
        self._provider = provider
        self._tokens = tokens
        self._on_login = on_login
        self._on_refused = on_refused
        self.cookie = "__Host-rcmed" if is_https else "rcmed"
        self.is_https = is_https
        self.key = secrets.token_hex(32)
        self.seconds = round(settings.session_hours * 3600)
        self._client = OAuth().register(
            "provider",
            client_id=settings.client_id,
            client_secret=None if secret is None else read_secret(secret, "web.oidc.client_secret_file"),
            server_metadata_url=provider.metadata_url,
            client_kwargs={
                "scope": " ".join(dict.fromkeys(("openid", *settings.scopes))),
                "code_challenge_method": "S256",
                "token_endpoint_auth_method": "none" if secret is None else "client_secret_basic",
                "verify": provider.tls,
                "trust_env": False,
                "timeout": settings.timeout_seconds,
            },
        )

    def is_known(self, request: Request) -> bool:
        """Whether the request's cookie tells of a log-in that still holds."""
        until = request.session.get("until")
        return isinstance(until, int | float) and time.time() < until

    def address(self, request: Request) -> str:
        """Where a browser is sent that is not logged in; it comes back to where it wanted to go."""
        return f"{LOGIN}?next={quote(request.url.path)}"

    def routes(self) -> APIRouter:
        """The part of the web application; its paths are open to all."""
        router = APIRouter()

        @router.get(LOGIN)
        async def login(request: Request, next: str = "/") -> Response:
            request.session.clear()
            request.session["next"] = next if next.startswith("/") and not next.startswith(("//", "/\\")) else "/"
            base = self._settings.public_url or str(request.base_url)
            try:
                await run_in_threadpool(self._provider.discover)
                answer: Response = await self._client.authorize_redirect(request, base.rstrip("/") + RETURN)
            except ProviderUnavailableError:
                return _unavailable()
            return answer

        @router.get(RETURN)
        async def come_back(request: Request) -> Response:
            wanted = str(request.session.get("next", "/"))
            address = request.client.host if request.client else ""
            try:
                claims = await self._claims(request)
            except ProviderUnavailableError:
                request.session.clear()
                return _unavailable()
            except (RefusedTokenError, ForbiddenError) as error:
                request.session.clear()
                self._on_refused(address, RETURN)
                status = 403 if isinstance(error, ForbiddenError) else 401
                return PlainTextResponse(f"the log-in is not accepted: {error}\n", status)
            request.session.clear()
            request.session["until"] = time.time() + self.seconds
            request.session["subject"] = str(claims["sub"])
            self._on_login(address, str(claims["sub"]))
            return RedirectResponse(wanted, 303)

        @router.post(LOGOUT)
        async def logout(request: Request) -> Response:
            request.session.clear()
            return PlainTextResponse("logged out\n")

        return router

    async def _claims(self, request: Request) -> Any:
        try:
            tokens = await self._client.authorize_access_token(request)
            identity = str(tokens["id_token"])
        except Exception as error:  # the library's own, of its HTTP client and of its JOSE; texts quote the address
            _LOG.warning("a log-in failed: %s", type(error).__name__)
            await run_in_threadpool(self._provider.discover)  # where it does not answer, that is the reason
            raise RefusedTokenError("log in again") from None
        # Looked at once more by our own rules: which algorithms, and the claim that is asked for.
        return await run_in_threadpool(self._tokens.admit, identity, self._settings.client_id)


def _unavailable() -> Response:
    return PlainTextResponse("the identity provider does not answer: try again later\n", 503)
