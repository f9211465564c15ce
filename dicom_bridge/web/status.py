"""The status pages. Everything is read from index, ledger, engine and job folders."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response

from dicom_bridge.delivery.condition import Condition
from dicom_bridge.errors import NotThereError
from dicom_bridge.jobs.answer_writer import job_folder
from dicom_bridge.jobs.answers import Answer, answers_of
from dicom_bridge.jobs.control import JobControl
from dicom_bridge.jobs.ledger import JobLedger
from dicom_bridge.jobs.steps import JobStep
from dicom_bridge.operations.operator_actions import MARKED
from dicom_bridge.operations.study_listing import StudyFilter, StudyListing, StudyState
from dicom_bridge.results.kinds import DOCUMENT_FILE
from dicom_bridge.settings import WebSettings
from dicom_bridge.store.index import StudyIndex
from dicom_bridge.store.marks import FindingMarks
from dicom_bridge.store.states import FINAL_JOB_STATES, UNFINISHED_JOB_STATES, JobState
from dicom_bridge.store.tables import FindingMarkRow, JobRow
from dicom_bridge.store.timeline import StudyTimeline
from dicom_bridge.studies.routing import Route, explain_routes
from dicom_bridge.web.actions import accepts_html
from dicom_bridge.web.pages import page_templates
from dicom_bridge.web.studies import AskedStudies, studies_page

_PICTURE = re.compile(r"(image-\d+/)?overlay-\d+\.png")
_PDF = re.compile(r"(image-\d+/)?report\.pdf")
_TROUBLE = ("error", "warning")
_LATEST = 10


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
        listing: studies as a list.
        marks: of findings.
        attention: what an operator should look at though the gateway is sound, by name.
        web: how often pages show themselves anew, the viewer, and whether patients' names are shown.
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
    listing: StudyListing
    marks: FindingMarks
    attention: Callable[[], Mapping[str, str]]
    web: WebSettings
    on_download: Callable[[str, str, str, str | None], None] = lambda study, job, address, user: None

    def viewer(self, study_uid: str) -> str | None:
        """Where a study is opened in a viewer; None where none is configured."""
        return None if self.web.viewer_url is None else self.web.viewer_url.replace("{study}", study_uid)


def status_pages(shown: Shown) -> APIRouter:
    """The part of the web application."""
    router = APIRouter()
    templates = page_templates()
    index, ledger, control = shown.index, shown.ledger, shown.control

    def page(request: Request, name: str, refreshes: bool = True, **content: Any) -> Response:
        content["failed_count"] = sum(control.dead_letter_counts().values())
        content["refresh_seconds"] = shown.web.refresh_seconds if refreshes else 0
        content["viewer"] = shown.viewer
        content["shows_names"] = shown.web.patient_names
        return templates.TemplateResponse(request, name, content)

    @router.get("/", response_class=HTMLResponse)
    def overview(request: Request) -> Response:
        return page(
            request,
            "overview.html",
            rows=shown.listing.page(StudyFilter(), limit=_LATEST),
            asked={},
            study_counts=shown.listing.counts(),
            counts={state.value: ledger.count(state) for state in JobState},
            queue=shown.listing.queue(limit=20),
            lines=index.lines(limit=30, levels=_TROUBLE),
            health=shown.health(),
            attention=shown.attention(),
            destinations=shown.conditions(),
            deliveries=ledger.delivery_counts(),
            associations=shown.story.associations(limit=8),
            association_count=shown.associations(),
        )

    @router.get("/studies", response_class=HTMLResponse)
    def studies(request: Request) -> Response:
        asked = AskedStudies.parse(request.query_params)
        return page(
            request,
            "studies.html",
            asked=asked.asked,
            found=studies_page(shown.listing, asked),
            study_counts=shown.listing.counts(),
            states=StudyState,
        )

    @router.get("/failed")
    @router.get("/dead-letters")
    def failed(request: Request, destination: str | None = None) -> Response:
        destination = None if destination is None else destination.replace("\0", "")  # PostgreSQL takes no NUL
        letters = control.dead_letters(destination, limit=200)
        if not accepts_html(request):
            return JSONResponse([asdict(letter) for letter in letters])
        counts = sorted(
            (one for one in control.dead_letter_counts().items() if destination in (None, one[0][0] or "")),
            key=lambda one: -one[1],
        )
        return page(request, "failed.html", letters=letters, counts=counts, destination=destination)

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
            refreshes=row.is_open or any(job.state in UNFINISHED_JOB_STATES for job in jobs),
            study=row,
            state=shown.listing.state(study_uid),
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
    marks = shown.marks.of_job(job.job_id, job.drive)
    return {
        "job": job,
        "answers": [
            {
                **answer.content,
                "findings": _findings(shown.root, job, answer, marks),
                "document": _document_address(shown.root, job, answer),
            }
            for answer in answers_of(shown.root, job.job_id)
        ],
        "deliveries": deliveries,
        "steps": shown.steps(job),
        "can_cancel": job.state in UNFINISHED_JOB_STATES,
        "can_retry": is_final and job.state != JobState.DONE,
    }


def _findings(
    root: Path, job: JobRow, answer: Answer, marks: Mapping[tuple[int, int], FindingMarkRow]
) -> list[dict[str, Any]]:
    """The findings of an image, each with the address of its picture, its place in the job, and its mark."""
    findings = []
    for number, finding in enumerate(answer.content["findings"], start=1):
        picture = answer.picture(number)
        is_there = (job_folder(root, job.job_id) / picture).is_file()
        findings.append(
            {
                **finding,
                "picture": f"/jobs/{job.job_id}/{picture}" if is_there else None,
                "image": answer.image,
                "number": number,
                "can_be_marked": finding["status"] in MARKED,
                "mark": marks.get((answer.image, number)),
            }
        )
    return findings


def _document_address(root: Path, job: JobRow, answer: Answer) -> str | None:
    """Where the report of an image is fetched; None: it has none."""
    if not (job_folder(root, job.job_id) / answer.file(DOCUMENT_FILE)).is_file():
        return None
    return f"/jobs/{job.job_id}/{answer.file('report.pdf')}"
