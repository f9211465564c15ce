"""The status pages. Everything is read from index, ledger, engine and job folders."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response

from dicom_bridge.delivery.condition import Condition
from dicom_bridge.errors import NotThereError
from dicom_bridge.jobs.answer_writer import FINDINGS_FILE, job_folder
from dicom_bridge.jobs.control import JobControl
from dicom_bridge.jobs.ledger import JobLedger
from dicom_bridge.jobs.steps import JobStep
from dicom_bridge.results.kinds import DOCUMENT_FILE
from dicom_bridge.store.index import StudyIndex
from dicom_bridge.store.states import FINAL_JOB_STATES, UNFINISHED_JOB_STATES, JobState
from dicom_bridge.store.tables import JobRow
from dicom_bridge.store.timeline import StudyTimeline
from dicom_bridge.studies.routing import Route, explain_routes
from dicom_bridge.web.actions import accepts_html
from dicom_bridge.web.pages import page_templates

_PICTURE = re.compile(r"(image-\d+/)?overlay-\d+\.png")
_PDF = re.compile(r"(image-\d+/)?report\.pdf")
_TROUBLE = ("error", "warning")


@dataclass(frozen=True)
class Shown:
    """What the pages are made of.

    Attributes:
        index, story, ledger, control: of studies and jobs.
        root: the state folder, for the findings and pictures of the jobs.
        routes: that are configured.
        health: name of a part -> "ok" or what is wrong with it.
        conditions: of the destinations, by name.
        associations: how many are established now.
        steps: of a job.
        on_download: is told of each report that somebody fetches: study, job, address and user.
    """

    index: StudyIndex
    story: StudyTimeline
    ledger: JobLedger
    control: JobControl
    root: Path
    routes: Sequence[Route]
    health: Callable[[], Mapping[str, str]]
    conditions: Callable[[], Mapping[str, Condition]]
    associations: Callable[[], int]
    steps: Callable[[JobRow], Sequence[JobStep]]
    on_download: Callable[[str, str, str, str | None], None] = lambda study, job, address, user: None


def status_pages(shown: Shown) -> APIRouter:
    """The part of the web application."""
    router = APIRouter()
    templates = page_templates()
    index, ledger, control = shown.index, shown.ledger, shown.control

    def page(request: Request, name: str, **content: Any) -> Response:
        content["dead_count"] = sum(control.dead_letter_counts().values())
        return templates.TemplateResponse(request, name, content)

    @router.get("/", response_class=HTMLResponse)
    def overview(request: Request) -> Response:
        rows = [
            {"study": study, "instances": index.instance_count(study.study_uid), "jobs": ledger.jobs(study.study_uid)}
            for study in index.studies(limit=50)
        ]
        return page(
            request,
            "overview.html",
            rows=rows,
            counts={state.value: ledger.count(state) for state in JobState},
            queue=ledger.queue(limit=20),
            lines=index.lines(limit=30, levels=_TROUBLE),
            health=shown.health(),
            destinations=shown.conditions(),
            deliveries=ledger.delivery_counts(),
            associations=shown.story.associations(limit=8),
            association_count=shown.associations(),
        )

    @router.get("/dead-letters")
    def dead_letters(request: Request) -> Response:
        letters = control.dead_letters(limit=200)
        if not accepts_html(request):
            return JSONResponse([asdict(letter) for letter in letters])
        counts = sorted(control.dead_letter_counts().items(), key=lambda one: -one[1])
        return page(request, "dead_letters.html", letters=letters, counts=counts)

    @router.get("/studies/{study_uid}", response_class=HTMLResponse)
    def study(request: Request, study_uid: str) -> Response:
        row = index.study(study_uid)
        if row is None:
            raise HTTPException(404, "no such study")
        jobs = ledger.jobs(study_uid)
        expected = [mark.expected for mark in index.marks(study_uid) if mark.expected is not None]
        return page(
            request,
            "study.html",
            study=row,
            instances=index.instance_count(study_uid),
            expected=expected[-1] if expected else None,
            brought=shown.story.brought(study_uid),
            generations=shown.story.generations(study_uid),
            series=[_series(shown, study_uid, uid, facts, jobs) for uid, facts in index.series_of(study_uid)],
            jobs=[_job(shown, job) for job in jobs],
            lines=index.lines(study_uid),
        )

    @router.get("/jobs/{job_id}")
    def job(job_id: str) -> Response:
        """One job by REST."""
        try:
            row = ledger.job(job_id)
        except NotThereError:
            raise HTTPException(404, "no such job") from None
        told = {name: getattr(row, name) for name in ("job_id", "study_uid", "series_uid", "generation", "route")}
        told |= {name: getattr(row, name) for name in ("state", "priority", "drive", "error", "created_at")}
        names = ("destination", "state", "attempts", "delivered", "refused", "text", "drive", "updated_at")
        told["deliveries"] = [{name: getattr(one, name) for name in names} for one in ledger.deliveries(job_id)]
        told["steps"] = [asdict(step) for step in shown.steps(row)]
        return JSONResponse(told)

    @router.get("/jobs/{job_id}/{name:path}")
    def file(request: Request, job_id: str, name: str) -> Response:
        """A picture, or a report to read."""
        if _PICTURE.fullmatch(name) is None and _PDF.fullmatch(name) is None:
            raise HTTPException(404, "no such picture")
        try:
            path = job_folder(shown.root, job_id) / name
        except ValueError:
            raise HTTPException(404, "no such job") from None
        if _PDF.fullmatch(name) is not None:
            return _document(shown, request, job_id, path.with_name(DOCUMENT_FILE))
        if not path.is_file():
            raise HTTPException(404, "no such picture")
        return FileResponse(path, media_type="image/png")

    return router


def _document(shown: Shown, request: Request, job_id: str, path: Path) -> Response:
    """The PDF inside an object; it names the patient, so the audit trail has who fetched it."""
    if not path.is_file():
        raise HTTPException(404, "no such report")
    from pydicom import dcmread

    from dicom_bridge.results.documents.encapsulated_pdf import pages_of

    document = dcmread(path)
    address = request.client.host if request.client else ""
    shown.on_download(str(document.StudyInstanceUID), job_id, address, getattr(request.state, "user", None))
    headers = {"Content-Disposition": f'attachment; filename="report-{job_id[:12]}.pdf"'}
    return Response(pages_of(document), media_type="application/pdf", headers=headers)


def _series(shown: Shown, study_uid: str, uid: str, facts: Any, jobs: Sequence[JobRow]) -> dict[str, Any]:
    return {
        "uid": uid,
        "facts": facts,
        "instances": len(shown.index.instances_of(study_uid, uid)),
        "routes": explain_routes(facts, shown.routes),
        "jobs": [job for job in jobs if job.series_uid == uid],
    }


def _job(shown: Shown, job: JobRow) -> dict[str, Any]:
    deliveries = shown.ledger.deliveries(job.job_id)
    is_final = job.state in FINAL_JOB_STATES
    return {
        "job": job,
        "answers": _answers(shown.root, job),
        "deliveries": deliveries,
        "steps": shown.steps(job),
        "can_cancel": job.state in UNFINISHED_JOB_STATES,
        "can_retry": is_final and job.state != JobState.DONE,
    }


def _answers(root: Path, job: JobRow) -> list[dict[str, Any]]:
    """What was found in each image of a job, with the addresses of the pictures."""
    folder = job_folder(root, job.job_id)
    answers = []
    for path in sorted(folder.glob(f"**/{FINDINGS_FILE}")):
        try:
            answer = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        place = path.parent.relative_to(folder).as_posix()
        prefix = "" if place == "." else f"{place}/"
        for number, finding in enumerate(answer["findings"], start=1):
            name = f"{prefix}overlay-{number}.png"
            finding["picture"] = f"/jobs/{job.job_id}/{name}" if (folder / name).is_file() else None
        has_document = path.with_name(DOCUMENT_FILE).is_file()
        answer["document"] = f"/jobs/{job.job_id}/{prefix}report.pdf" if has_document else None
        answers.append(answer)
    return answers
