"""The status pages. Everything is read from index, ledger and job folders."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import FileResponse, HTMLResponse, Response
from fastapi.templating import Jinja2Templates

from dicom_bridge.delivery.condition import Condition
from dicom_bridge.jobs.worker import FINDINGS_FILE, job_folder
from dicom_bridge.store.index import StudyIndex
from dicom_bridge.store.ledger import JobLedger, JobState
from dicom_bridge.store.tables import JobRow

_PICTURE = re.compile(r"(image-\d+/)?overlay-\d+\.png")


def status_pages(
    index: StudyIndex,
    ledger: JobLedger,
    root: Path,
    health: Callable[[], dict[str, str]],
    conditions: Callable[[], Mapping[str, Condition]],
) -> APIRouter:
    """The part of the web application.

    Args:
        index, ledger: what is shown.
        root: the state folder, for the findings and pictures of the jobs.
        health: name of a part -> "ok" or what is wrong with it.
        conditions: of the destinations, by name.
    """
    router = APIRouter()
    templates = Jinja2Templates(Path(__file__).parent / "templates")
    templates.env.filters["time"] = _time
    templates.env.filters["measurement"] = _measurement

    @router.get("/", response_class=HTMLResponse)
    def studies(request: Request) -> Response:
        rows = [
            {"study": study, "instances": index.instance_count(study.study_uid), "jobs": ledger.jobs(study.study_uid)}
            for study in index.studies(limit=100)
        ]
        counts = {state.value: ledger.count(state) for state in JobState}
        content = {"rows": rows, "counts": counts, "lines": index.lines(limit=50), "health": health()}
        content |= {"destinations": conditions(), "deliveries": ledger.delivery_counts()}
        return templates.TemplateResponse(request, "studies.html", content)

    @router.get("/studies/{study_uid}", response_class=HTMLResponse)
    def study(request: Request, study_uid: str) -> Response:
        row = index.study(study_uid)
        if row is None:
            raise HTTPException(404, "no such study")
        content = {
            "study": row,
            "instances": index.instance_count(study_uid),
            "series": index.series_of(study_uid),
            "jobs": [
                {"job": job, "answers": _answers(root, job), "deliveries": ledger.deliveries(job.job_id)}
                for job in ledger.jobs(study_uid)
            ],
            "lines": index.lines(study_uid),
        }
        return templates.TemplateResponse(request, "study.html", content)

    @router.get("/jobs/{job_id}/{name:path}")
    def picture(job_id: str, name: str) -> Response:
        if _PICTURE.fullmatch(name) is None:
            raise HTTPException(404, "no such picture")
        try:
            path = job_folder(root, job_id) / name
        except ValueError:
            raise HTTPException(404, "no such job") from None
        if not path.is_file():
            raise HTTPException(404, "no such picture")
        return FileResponse(path, media_type="image/png")

    return router


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
        answers.append(answer)
    return answers


def _measurement(told: Mapping[str, Any]) -> str:
    """Name, value and unit of a measurement of findings.json."""
    from rcmed.measurements import written  # with SciPy, which receiving does without

    value = "not finite" if told["value"] is None else written(float(told["value"]), str(told["unit"]))
    return f"{told['name']}: {value}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")
