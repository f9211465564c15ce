"""The report to read is fetched from the page of its study, and the audit trail has who fetched it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import httpx
import pydicom
import pytest
from pypdf import PdfReader

from dicom_bridge.delivery.dimse.sending import send_files
from dicom_bridge.gateway.composition import Gateway
from dicom_bridge.settings import GatewaySettings

PATIENCE = 60.0


@pytest.mark.slow
def test_a_study_s_page_leads_to_its_report(tmp_path: Path, threshold_assistant: Any, make_ct_series: Any) -> None:
    routes = [
        {"name": "read", "prompts": ["liver", "spleen", "wibble"], "destinations": ["results"], "results": ["pdf"]},
        {"name": "not read", "prompts": ["liver"], "destinations": ["results"]},
    ]
    content = {
        "state_folder": str(tmp_path / "state"),
        "receive": {"port": 0, "minimum_free_megabytes": 0},
        "completion": {"quiet_seconds": 5, "released_seconds": 0.1},
        "jobs": {"polling_seconds": 0.05},
        "web": {"port": 0},
        "routing": {"routes": routes, "destinations": {"results": {"type": "folder", "path": "results"}}},
    }
    files = make_ct_series(2)
    study = str(pydicom.dcmread(files[0]).StudyInstanceUID)
    with Gateway(GatewaySettings.model_validate(content), threshold_assistant) as gateway:
        send_files(files, "127.0.0.1", gateway.ports.dicom, "RCMED", "CT01")
        jobs = {job.route: job.job_id for job in gateway.wait_for_study(study, PATIENCE)}
        with httpx.Client(base_url=f"http://127.0.0.1:{gateway.ports.web}") as client:
            page = client.get(f"/studies/{study}").text
            address = f"/jobs/{jobs['read']}/report.pdf"
            assert page.count("report.pdf") == 1 and f'href="{address}"' in page
            answer = client.get(address)
            assert answer.headers["content-type"] == "application/pdf"
            assert answer.headers["content-disposition"].startswith("attachment")
            text = " ".join(page.extract_text() for page in PdfReader(io.BytesIO(answer.content)).pages)
            assert "RESEARCH USE ONLY" in text and study in "".join(text.split())
            for wrong in (f"/jobs/{jobs['not read']}/report.pdf", "/jobs/abc/report.pdf", f"{address[:-4]}.dcm"):
                assert client.get(wrong).status_code == 404
    told = [json.loads(line) for line in (tmp_path / "state" / "audit.jsonl").read_text().splitlines()]
    (fetched,) = [record for record in told if record.get("destination") == "browser"]
    assert (fetched["event"]["meaning"], fetched["study"], fetched["job"]) == ("Export", study, jobs["read"])
