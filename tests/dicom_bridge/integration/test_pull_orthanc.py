"""Studies fetched from Orthanc by each way that it offers, ordered by the command, answered as if sent."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pydicom
import pytest
from pydicom.uid import JPEG2000Lossless, RLELossless

from dicom_bridge.commands.process import process
from dicom_bridge.gateway.composition import Gateway
from dicom_bridge.store.states import JobState
from rcmed.errors import ConfigurationError, InputError

pytestmark = pytest.mark.integration
PATIENCE = 120.0
FOLDER = {"type": "folder", "path": "results"}


def source(kind: str, orthanc: Any) -> dict[str, Any]:
    if kind == "dicomweb":
        return {"type": kind, "url": orthanc.dicom_web}
    return {"type": kind, "host": "127.0.0.1", "port": orthanc.port, "called_ae": orthanc.ae_title}


def wait_for_orders(page: str, count: int) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE
    while True:
        told: dict[str, Any] = httpx.get(page).json()
        if told["orders"].get("done", 0) >= count or "failed" in told["orders"] or time.monotonic() > deadline:
            return told
        time.sleep(0.05)


@pytest.mark.parametrize("kind", ["dicomweb", "c_move", "c_get"])
def test_a_study_and_then_the_archive(
    kind: str,
    start_gateway: Callable[..., Gateway],
    orthanc: Any,
    make_ct_series: Any,
    free_port: Callable[[], int],
    tmp_path: Path,
) -> None:
    series = [make_ct_series(3) for _ in range(3)]
    for file, syntax in zip(series[0], (RLELossless, JPEG2000Lossless), strict=False):
        compressed = pydicom.dcmread(file)
        compressed.compress(syntax, generate_instance_uid=False)
        compressed.save_as(file)
    for files in series:
        for file in files:
            orthanc.api.upload_file(str(file))
    studies = [str(pydicom.dcmread(files[0]).StudyInstanceUID) for files in series]
    port = free_port()
    sections = {
        "sources": {"pacs": source(kind, orthanc)},
        "pull": {"maximum_unfinished": 1, "first_wait_seconds": 0.1},
        "web": {"port": port},
    }
    gateway = start_gateway(FOLDER, **sections)
    orthanc.knows(gateway)
    config = tmp_path / "asked.yaml"
    config.write_text(json.dumps({"sources": sections["sources"], "web": sections["web"]}))
    page = f"http://127.0.0.1:{port}/api/pull"

    process("pacs", config, [studies[0]])
    told = wait_for_orders(page, 1)
    assert [(row["state"], row["text"]) for row in told["latest"]] == [("done", "3 instances fetched, 0 were there")]
    (job,) = gateway.wait_for_study(studies[0], PATIENCE)
    assert job.state == JobState.DONE
    for file in series[0]:
        sent = pydicom.dcmread(file)
        kept = gateway.index.instance_path(studies[0], sent.SeriesInstanceUID, sent.SOPInstanceUID)
        assert kept is not None
        came = pydicom.dcmread(gateway.root / kept)
        assert came.file_meta.TransferSyntaxUID == sent.file_meta.TransferSyntaxUID
        assert came.PixelData == sent.PixelData

    process("pacs", config, query="Modality=CT,StudyDate=20240101-20240201")
    told = wait_for_orders(page, 4)
    assert told["orders"] == {"done": 4}
    texts = {row["study"]: row["text"] for row in told["latest"]}
    assert texts == {
        None: "3 studies",
        studies[0]: "0 instances fetched, 3 were there",
        studies[1]: "3 instances fetched, 0 were there",
        studies[2]: "3 instances fetched, 0 were there",
    }
    for study in studies:
        assert [job.state for job in gateway.wait_for_study(study, PATIENCE)] == [JobState.DONE]
    assert gateway.health()["pull"] == "ok"

    process("pacs", config, query="StudyDate=19990101")
    told = wait_for_orders(page, 5)
    assert [row["text"] for row in told["latest"] if row["study"] is None] == ["0 studies", "3 studies"]
    with pytest.raises(InputError, match="no source 'elsewhere'"):
        process("elsewhere", config, [studies[0]])


def test_where_no_gateway_runs_the_command_says_so(tmp_path: Path, free_port: Callable[[], int]) -> None:
    config = tmp_path / "gateway.yaml"
    pacs = {"type": "dicomweb", "url": "http://127.0.0.1:1"}
    config.write_text(json.dumps({"web": {"port": free_port()}, "sources": {"pacs": pacs}}))
    with pytest.raises(ConfigurationError, match="start it with rcmed serve"):
        process("pacs", config, ["1.2.3"])
