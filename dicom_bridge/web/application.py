"""The web application: its parts behind one door, which knows who may ask and under which name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import PlainTextResponse, Response
from starlette.middleware.sessions import SessionMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from dicom_bridge.web.auth import Door
from dicom_bridge.web.origins import LOOPBACK_NAMES, is_from_another_page
from dicom_bridge.web.pages import script_source

_HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; script-src {script_source()}; connect-src 'self'; img-src 'self' data:; "
        "style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_OPEN = Door()


def build_application(
    parts: Sequence[APIRouter],
    door: Door = _OPEN,
    host_names: Sequence[str] = (),
    on_refused: Callable[[str, str], None] = lambda address, path: None,
) -> FastAPI:
    """Put the parts together.

    Args:
        parts: pages and interfaces.
        door: who may ask. `/healthz` is answered to all, and says less to those whom it does not let in.
        host_names: under which it may be asked, beside loopback's.
        on_refused: takes address and path of each request that brought something else.
    """
    app = FastAPI(title="RCMed gateway", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*LOOPBACK_NAMES, *host_names])

    @app.middleware("http")
    async def _door(request: Request, call_next: Callable[[Request], Any]) -> Response:
        refusal = await door.refusal(request)
        request.state.is_known = refusal is None
        if refusal is not None and not door.is_open_to_all(request.url.path):
            if request.headers.get("authorization"):  # browsers ask once without, before they ask their user
                on_refused(request.client.host if request.client else "", request.url.path)
            answer: Response = refusal
        elif request.method not in ("GET", "HEAD") and is_from_another_page(request.headers):
            answer = PlainTextResponse("a page of another origin asked for this\n", 403)
        else:
            answer = await call_next(request)
        answer.headers.update(_HEADERS)
        return answer

    login = door.login
    if login is not None:
        app.include_router(login.routes())
        app.add_middleware(
            SessionMiddleware,
            secret_key=login.key,
            session_cookie=login.cookie,
            max_age=login.seconds,
            https_only=login.is_https,
        )
    for part in parts:
        app.include_router(part)
    return app
