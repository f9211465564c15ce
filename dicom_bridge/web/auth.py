"""Who may ask: whoever brings the token, a token of the identity provider, or the cookie of a log-in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi import Request
from fastapi.responses import PlainTextResponse, RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from dicom_bridge.events.sink import Observer
from dicom_bridge.security.oidc import (
    ForbiddenError,
    OidcTokens,
    Provider,
    ProviderUnavailableError,
    RefusedTokenError,
)
from dicom_bridge.security.token import Token, user_in
from dicom_bridge.settings import WebSettings

if TYPE_CHECKING:
    from dicom_bridge.web.login import Login

_OPEN_TO_ALL = ("/healthz",)


@dataclass(frozen=True)
class Door:
    """What opens it; with nothing configured it stands open.

    Attributes:
        token: the shared secret.
        oidc: checks tokens of the identity provider.
        login: of browsers there.
    """

    token: Token | None = None
    oidc: OidcTokens | None = None
    login: Login | None = None

    def is_open_to_all(self, path: str) -> bool:
        """Whether a path is answered to anyone."""
        return path in _OPEN_TO_ALL or (self.login is not None and path in self.login.paths)

    async def refusal(self, request: Request) -> Response | None:
        """None where the request may pass; else what it is answered.

        `request.state.user` is who asks then, as the identity provider calls him; else the name that he claims.
        """
        credentials = request.headers.get("authorization")
        request.state.user = user_in(credentials)
        request.state.is_logged_in = False
        if self.token is None and self.oidc is None:
            return None
        if self.token is not None and self.token.is_in(credentials):
            return None
        if self.login is not None and self.login.is_known(request):
            request.state.user = str(request.session.get("subject"))
            request.state.is_logged_in = True
            return None
        kind, _, value = (credentials or "").partition(" ")
        if self.oidc is not None and kind.lower() == "bearer" and value.count(".") == 2:
            return await self._judge(request, self.oidc, value.strip())
        if self.login is not None and _is_browser(request):
            return RedirectResponse(self.login.address(request), 303)
        answer = PlainTextResponse("the token is missing or wrong\n", 401)
        # A browser that can log in elsewhere must not ask its user for a password.
        basic = self.token is not None and self.login is None
        answer.headers["WWW-Authenticate"] = (
            'Basic realm="RCMed gateway", charset="UTF-8"' if basic else 'Bearer realm="RCMed gateway"'
        )
        return answer

    async def _judge(self, request: Request, oidc: OidcTokens, token: str) -> Response | None:
        try:
            claims = await run_in_threadpool(oidc.admit, token)
        except RefusedTokenError as error:
            answer = PlainTextResponse(f"the token is not accepted: {error}\n", 401)
            answer.headers["WWW-Authenticate"] = 'Bearer realm="RCMed gateway", error="invalid_token"'
            return answer
        except ForbiddenError as error:
            answer = PlainTextResponse(f"the token does not allow this: {error}\n", 403)
            answer.headers["WWW-Authenticate"] = 'Bearer realm="RCMed gateway", error="insufficient_scope"'
            return answer
        except ProviderUnavailableError:
            return PlainTextResponse("the identity provider does not answer: try again later\n", 503)
        request.state.user = str(claims["sub"])
        return None


def open_door(settings: WebSettings, observer: Observer) -> Door:
    """The door that the settings ask for.

    Raises:
        ConfigurationError: a file that they name can't be used.
    """
    token = None if settings.token_file is None else Token.from_file(settings.token_file)
    oidc = settings.oidc
    if oidc is None:
        return Door(token)
    provider = Provider(oidc)
    tokens = OidcTokens(oidc, provider)
    if oidc.client_id is None:
        return Door(token, tokens)
    from dicom_bridge.web.login import Login

    by_proxy = (oidc.public_url or "").startswith("https:")
    login = Login(
        oidc, provider, tokens, settings.tls is not None or by_proxy, observer.logged_in, observer.request_refused
    )
    return Door(token, tokens, login)


def _is_browser(request: Request) -> bool:
    return request.method == "GET" and "text/html" in request.headers.get("accept", "")
