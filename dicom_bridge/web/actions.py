"""What operators do: the buttons of the status page, and the same addresses by REST.

A request that accepts HTML is sent back to the page that it came from; any other one is answered in JSON. That no page
of someone else presses the buttons is the application's business (`dicom_bridge.web.application`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response

from dicom_bridge.errors import NotThereError
from dicom_bridge.jobs.control import NotPossibleError
from dicom_bridge.operations.operator_actions import Operator, OperatorActions
from dicom_bridge.store.marks import Mark
from dicom_bridge.web.pages import page_templates


def actions(operating: OperatorActions) -> APIRouter:
    """The part of the web application: everything that changes something."""
    router = APIRouter()

    @router.post("/jobs/{job_id}/cancel")
    def cancel(request: Request, job_id: str) -> Response:
        return _do(request, lambda by: operating.cancel(job_id, by))

    @router.post("/jobs/{job_id}/retry")
    def retry(request: Request, job_id: str) -> Response:
        return _do(request, lambda by: operating.retry(job_id, by))

    @router.post("/jobs/{job_id}/deliveries/{destination}/redrive")
    def redrive(request: Request, job_id: str, destination: str) -> Response:
        return _do(request, lambda by: operating.redrive(job_id, destination, by))

    @router.post("/jobs/{job_id}/mark")
    def mark(
        request: Request,
        job_id: str,
        finding: Annotated[int, Form(ge=1)],
        mark: Annotated[Literal["right", "wrong", "none"], Form()],
        image: Annotated[int, Form(ge=1)] = 1,
    ) -> Response:
        """`finding` and `image` count from 1 within the job; `none` takes back what was said."""
        said = None if mark == "none" else Mark(mark)
        place = f"finding-{job_id[:12]}-{image}-{finding}"
        return _do(request, lambda by: operating.mark(job_id, image, finding, said, by), place)

    @router.post("/failed/redrive")
    @router.post("/dead-letters/redrive")
    def redrive_all(
        request: Request,
        destination: Annotated[str | None, Form()] = None,
        reason: Annotated[str | None, Form()] = None,
        jobs: Annotated[bool, Form()] = False,
    ) -> Response:
        """`destination` and `reason` narrow it down; `jobs`: only jobs that failed themselves."""
        which = "" if jobs else destination or None
        return _do(request, lambda by: {"redriven": operating.redrive_all(which, reason, by)})

    @router.post("/studies/{study_uid}/complete")
    def complete(
        request: Request, study_uid: str, expected: Annotated[int | None, Form(ge=1, le=1_000_000)] = None
    ) -> Response:
        """`expected`: it is complete when so many instances are there, or after quiet time; without it: now."""
        return _do(request, lambda by: operating.complete(study_uid, expected, by))

    return router


def _do(request: Request, act: Callable[[Operator], Any], place: str | None = None) -> Response:
    """Do it; `place`: where on its page a browser is sent back to."""
    address = request.client.host if request.client else ""
    try:
        told = act(Operator(address, request.state.user))
    except (NotThereError, NotPossibleError) as error:
        status = 409 if isinstance(error, NotPossibleError) else 404
        if not accepts_html(request):
            raise HTTPException(status, str(error)) from None
        content = {"text": str(error), "back": _page_of(request)}
        return page_templates().TemplateResponse(request, "message.html", content, status_code=status)
    if accepts_html(request):
        return RedirectResponse(_page_of(request) + (f"#{place}" if place else ""), status_code=303)
    return JSONResponse({"status": "ok", **(told or {})})


def accepts_html(request: Request) -> bool:
    """Whether a browser asks."""
    return "text/html" in request.headers.get("accept", "")


def _page_of(request: Request) -> str:
    """The page of ours on which the button is."""
    referer = urlsplit(request.headers.get("referer", ""))
    if referer.netloc != request.headers.get("host") or not referer.path.startswith("/") or "//" in referer.path:
        return "/"
    return referer.path
