"""What a request must keep to before any route sees it: a name that is ours, a known origin, a bounded body."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from monailabel_app.settings import LOOPBACK

LOOPBACK_ORIGIN = r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?"
_SAFE = ("GET", "HEAD", "OPTIONS")


class Guards:
    """ASGI middleware.

    A page of another origin can't use a browser to write here, and can't reach a server on loopback by a name of its
    own that it makes point there.
    """

    def __init__(self, app: ASGIApp, most_bytes: int, hosts: Sequence[str], origins: Sequence[str]) -> None:
        """Guard an application.

        Args:
            most_bytes: of a body; more is answered 413, also where no length was announced.
            hosts: names by which the server may be addressed, beside loopback; "*" for any.
            origins: beside loopback and the server's own, whose pages may write.
        """
        self._app = app
        self._most_bytes = most_bytes
        self._hosts = {*LOOPBACK, *(host.lower() for host in hosts)}
        self._origins = {origin.rstrip("/").lower() for origin in origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 400, 403 or 413."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(scope["method"], headers)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        counted, is_too_large = 0, False

        async def limited() -> Message:
            nonlocal counted, is_too_large
            message = await receive()
            if message["type"] == "http.request":
                counted += len(message.get("body", b""))
                is_too_large = is_too_large or counted > self._most_bytes
            # To the application it is as if the client had gone; what it answers to that is not sent.
            return {"type": "http.disconnect"} if is_too_large else message

        async def allowed(message: Message) -> None:
            if not is_too_large:
                await send(message)

        try:
            await self._app(scope, limited, allowed)
        except Exception:
            if not is_too_large:
                raise
        if is_too_large:
            await self._too_large()(scope, receive, send)

    def _refusal(self, method: str, headers: Headers) -> JSONResponse | None:
        host = urlsplit(f"//{headers.get('host', '')}").hostname or ""
        if "*" not in self._hosts and host not in self._hosts:
            return _refuse(400, "the server is not known by this name: see `allowed_hosts`")
        origin = headers.get("origin", "").lower()
        if origin and method not in _SAFE and not self._is_known(origin, headers.get("host", "").lower()):
            return _refuse(403, "pages of this origin may not write here: see `cors_origins`")
        length = headers.get("content-length", "0")
        if not length.isdigit():
            return _refuse(400, "the length of the body is no number")
        return self._too_large() if int(length) > self._most_bytes else None

    def _is_known(self, origin: str, host: str) -> bool:
        is_own = urlsplit(origin).netloc == host
        return is_own or origin in self._origins or re.fullmatch(LOOPBACK_ORIGIN, origin) is not None

    def _too_large(self) -> JSONResponse:
        return _refuse(413, f"the body is larger than {self._most_bytes // 2**20} MiB: see `upload_megabytes`")


def _refuse(status: int, detail: str) -> JSONResponse:
    return JSONResponse({"detail": detail}, status, headers={"Connection": "close"} if status == 413 else None)
