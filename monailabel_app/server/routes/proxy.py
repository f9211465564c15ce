"""/proxy/dicom: the DICOMweb server of the studies, for OHIF; that server only, and of it DICOMweb only.

MONAI Label's own passes any path on, `..` included, which reaches all of an Orthanc, and the client's headers too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import requests
from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from monailabel_app.server.routes.access import Annotator, AnyUser
from monailabel_app.server.routes.serving import Served

router = APIRouter(prefix="/proxy/dicom", tags=["Others"], include_in_schema=False)

# PS3.18: resources begin with one of these; UIDs, tags and words follow.
_RESOURCE = re.compile(r"(studies|series|instances)(/[A-Za-z0-9_,-]+(\.[A-Za-z0-9_,-]+)*)*/?")
_STOW = re.compile(r"studies(/[0-9.]+)?/?")
SENT = ("accept", "content-type")
RETURNED = ("content-type", "etag", "last-modified", "warning")
CHUNK_BYTES = 2**18
TIMEOUT_SECONDS = 30.0


# Decorators take effect from the last to the first: the one that takes every path comes last.
@router.get("/{path:path}")
@router.get("/wado/{path:path}")
@router.get("/qido/{path:path}")
@router.get("/stow/{path:path}")
def get(request: Request, served: Served, user: AnyUser, path: str) -> Response:
    """QIDO-RS and WADO-RS."""
    if _RESOURCE.fullmatch(path) is None:
        raise HTTPException(400, "this is no DICOMweb resource (studies, series, instances)")
    return _pass_on(request, served, "GET", path)


@router.post("/{path:path}")
@router.post("/stow/{path:path}")
@router.post("/wado/{path:path}")
@router.post("/qido/{path:path}")
async def post(request: Request, served: Served, user: Annotator, path: str) -> Response:
    """STOW-RS."""
    if _STOW.fullmatch(path) is None:
        raise HTTPException(400, "instances are stored at `studies` or `studies/<UID>` only")
    body = await request.body()
    return await run_in_threadpool(_pass_on, request, served, "POST", path, body)


def _pass_on(request: Request, served: Any, method: str, path: str, body: bytes | None = None) -> Response:
    if not served.settings.is_remote:
        raise HTTPException(404, "the studies lie in a folder; there is no DICOMweb server to ask")
    session: requests.Session = request.app.state.peer
    headers = {name: request.headers[name] for name in SENT if name in request.headers}
    query = f"?{request.url.query}" if request.url.query else ""
    address = f"{served.settings.studies.rstrip('/')}/{path}{query}"
    try:
        reply = session.request(
            method,
            address,
            data=body,
            headers=headers,
            stream=True,
            timeout=TIMEOUT_SECONDS,
            allow_redirects=False,
        )
    except requests.RequestException:
        raise HTTPException(502, "the DICOMweb server does not answer") from None
    returned = {name: reply.headers[name] for name in RETURNED if name in reply.headers}
    return StreamingResponse(_chunks(reply), status_code=reply.status_code, headers=returned)


def _chunks(reply: requests.Response) -> Iterator[bytes]:
    try:
        yield from reply.iter_content(CHUNK_BYTES)
    finally:
        reply.close()
