"""The web application: the page, its interface, and the guards before both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dicom_bridge.asking.asking import Asking
from dicom_bridge.asking.routes import asking_routes
from dicom_bridge.asking.uploads import TooMuchError, Uploads
from dicom_bridge.errors import NotThereError
from dicom_bridge.web.origins import LOOPBACK_NAMES, is_from_another_page
from rcmed.errors import RCMedError
from rcmed.modality import Modality

PAGE = Path(__file__).parent / "page"
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
LARGEST_QUESTION = 2**20
"""Bytes of a request that is read as a whole; files are read in parts."""


def build_application(uploads: Uploads, asking: Asking, modality: Modality | None = None) -> FastAPI:
    """Put page and interface together; asked under loopback's names only, and by no page of another origin.

    Args:
        uploads, asking, modality: as of `asking_routes`.
    """
    app = FastAPI(title="RCMed", docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(asking_routes(uploads, asking, modality))
    app.mount("/page", StaticFiles(directory=PAGE), name="page")

    @app.get("/")
    def page() -> FileResponse:
        return FileResponse(PAGE / "index.html", media_type="text/html")

    app.add_middleware(_Guard)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(LOOPBACK_NAMES))
    for kind, status in ((RCMedError, 422), (TooMuchError, 413), (NotThereError, 404)):
        app.add_exception_handler(kind, _one_line_with(status))

    @app.exception_handler(HTTPException)
    def refused(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": str(error.detail)}, error.status_code)

    @app.exception_handler(RequestValidationError)
    def wrong(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return JSONResponse({"error": f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"}, 422)

    return app


def _one_line_with(status: int) -> Callable[[Request, Exception], JSONResponse]:
    def answer(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": " ".join(str(error).split())}, status)

    return answer


class _Guard:
    """Refuses what other pages ask, which may lead to this one but no further, and questions too large to be one; adds
    the headers that bind the page."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def bound(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        app, headers = self._app, Headers(scope=scope)
        if scope["path"].startswith("/api/") and is_from_another_page(headers):
            app = PlainTextResponse("a page of another origin asked for this\n", 403)
        elif scope["method"] == "POST" and not _is_short(headers):
            app = PlainTextResponse(f"a question has at most {LARGEST_QUESTION} bytes, and says how many\n", 413)
        await app(scope, receive, bound)


def _is_short(headers: Headers) -> bool:
    length = headers.get("content-length", "")
    return "transfer-encoding" not in headers and (not length or (length.isdigit() and int(length) <= LARGEST_QUESTION))
