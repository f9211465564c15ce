"""The whole line in one process: a study goes in by C-STORE, SEG and SR come out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid
from pynetdicom import AE, evt
from pynetdicom.sop_class import Comprehensive3DSRStorage, SegmentationStorage  # type: ignore[attr-defined]

from dicom_bridge.delivery.dimse.c_store import store_files
from dicom_bridge.delivery.dimse.outgoing import read_outgoing
from dicom_bridge.gateway.composition import Gateway
from dicom_bridge.settings import GatewaySettings
from dicom_bridge.store.states import JobState
from rcmed.errors import ConfigurationError

PATIENCE = 60.0


def settings(root: Path, **routing: Any) -> GatewaySettings:
    content: dict[str, Any] = {
        "state_folder": str(root),
        "receive": {"port": 0, "minimum_free_megabytes": 0},
        "completion": {"quiet_seconds": 5, "released_seconds": 0.1},
        "jobs": {"polling_seconds": 0.05},
        "delivery": {"first_wait_seconds": 0.1, "maximum_wait_seconds": 0.2, "timeout_seconds": 5},
        "web": {"port": 0},
    }
    if routing:
        content["routing"] = routing
    return GatewaySettings.model_validate(content)


ASKED = {
    "routes": [{"name": "ct", "prompts": ["liver", "spleen", "wibble"], "destinations": ["results"]}],
    "destinations": {"results": {"type": "folder", "path": "results"}},
}


@pytest.fixture
def gateway(tmp_path: Path, threshold_assistant: Any) -> Iterator[Gateway]:
    with Gateway(settings(tmp_path / "state", **ASKED), threshold_assistant) as running:
        yield running


def send(gateway: Gateway, files: list[Path]) -> None:
    outcomes = store_files(
        [read_outgoing(file) for file in files],
        host="127.0.0.1",
        port=gateway.ports.dicom,
        called_ae="RCMED",
        calling_ae="CT01",
        timeout_seconds=30,
    )
    assert [outcome.status for outcome in outcomes] == [0] * len(files)


def results(gateway: Gateway, study_uid: str) -> dict[str, pydicom.Dataset]:
    files = sorted((gateway.root / "results" / study_uid).iterdir())
    datasets = [pydicom.dcmread(file) for file in files]
    assert len({dataset.Modality for dataset in datasets}) == len(datasets)
    return {dataset.Modality: dataset for dataset in datasets}


@pytest.mark.slow
def test_a_study_goes_in_and_findings_come_out(gateway: Gateway, make_ct_series: Any) -> None:
    files = make_ct_series(4)
    first = pydicom.dcmread(files[0])
    send(gateway, files)
    jobs = gateway.wait_for_study(first.StudyInstanceUID, PATIENCE)
    assert [job.state for job in jobs] == [JobState.DONE]
    found = results(gateway, first.StudyInstanceUID)
    assert set(found) == {"SEG", "SR"}
    assert found["SEG"].SOPClassUID == SegmentationStorage
    assert found["SR"].SOPClassUID == Comprehensive3DSRStorage
    assert len(found["SEG"].SegmentSequence) == 1
    expected = np.zeros((4, 32, 32), dtype=bool)
    expected[:, 8:20, 10:16] = True
    assert np.array_equal(found["SEG"].pixel_array.astype(bool), expected)
    folder = gateway.root / "jobs" / jobs[0].job_id
    answer = json.loads((folder / "findings.json").read_text())
    assert answer["input"] == {"series_instance_uid": first.SeriesInstanceUID}
    assert [(f["prompt"], f["present"], f["mask"]) for f in answer["findings"]] == [
        ("liver", True, "segmentation.dcm"),
        ("spleen", False, None),
        ("wibble", None, None),
    ]
    assert sorted(path.name for path in folder.iterdir()) == [
        "findings.json",
        "overlay-1.png",
        "overlay-2.png",
        "report.dcm",
        "segmentation.dcm",
    ]
    assert gateway.is_idle()


@pytest.mark.slow
def test_sending_it_again_makes_nothing_new(gateway: Gateway, make_ct_series: Any, threshold_assistant: Any) -> None:
    files = make_ct_series(3)
    study = pydicom.dcmread(files[0]).StudyInstanceUID
    send(gateway, files)
    gateway.wait_for_study(study, PATIENCE)
    before = {name: dataset.SOPInstanceUID for name, dataset in results(gateway, study).items()}
    send(gateway, files)
    assert gateway.wait_until_idle(PATIENCE)
    assert {name: dataset.SOPInstanceUID for name, dataset in results(gateway, study).items()} == before
    assert len(threshold_assistant.calls) == 1


@pytest.mark.slow
def test_a_late_instance_makes_a_new_generation_of_its_series_only(
    gateway: Gateway, make_ct_series: Any, threshold_assistant: Any
) -> None:
    study, growing = generate_uid(), generate_uid()
    files = make_ct_series(4, study, growing)
    other = make_ct_series(2, study)
    send(gateway, files[:3] + other)
    assert len(gateway.wait_for_study(study, PATIENCE)) == 2
    send(gateway, files[3:])
    assert gateway.wait_until_idle(PATIENCE)
    jobs = gateway.ledger.jobs(study)
    assert sorted((job.generation, len(job.instances)) for job in jobs) == [(1, 2), (1, 3), (2, 4)]
    assert [job.state for job in jobs] == [JobState.DONE] * 3
    assert len(list((gateway.root / "results" / study).iterdir())) == 6
    assert len(threshold_assistant.calls) == 3
    reports = {
        (job.generation, len(job.instances)): pydicom.dcmread(gateway.root / "jobs" / job.job_id / "report.dcm")
        for job in jobs
    }
    assert "PredecessorDocumentsSequence" not in reports[1, 3]
    (earlier,) = reports[2, 4].PredecessorDocumentsSequence
    (series,) = earlier.ReferencedSeriesSequence
    (document,) = series.ReferencedSOPSequence
    assert earlier.StudyInstanceUID == study
    assert series.SeriesInstanceUID == reports[1, 3].SeriesInstanceUID
    assert document.ReferencedSOPClassUID == Comprehensive3DSRStorage
    assert document.ReferencedSOPInstanceUID == reports[1, 3].SOPInstanceUID


@pytest.mark.slow
def test_what_can_not_be_read_is_said_and_the_rest_goes_on(gateway: Gateway, make_ct_series: Any) -> None:
    """A corrupt file, a report, a missing slice and mixed orientations: one line each, and the sound series is done."""
    study = generate_uid()
    sound = make_ct_series(3, study)
    corrupt = make_ct_series(1, study)
    content = corrupt[0].read_bytes()
    corrupt[0].write_bytes(content[: len(content) - 1500])
    no_image = make_ct_series(1, study)
    report = pydicom.dcmread(no_image[0])
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    report.Modality = "OT"
    del report.PixelData
    report.save_as(no_image[0])
    skipped = make_ct_series(1, study)
    report.Modality, report.SeriesInstanceUID = "SR", pydicom.dcmread(skipped[0]).SeriesInstanceUID
    report.SOPInstanceUID = report.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    report.save_as(skipped[0])
    gap = make_ct_series([0, 1, 2, 4, 5], study)
    mixed = make_ct_series(4, study)
    for file in mixed[2:]:
        turned = pydicom.dcmread(file)
        turned.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
        turned.save_as(file)
    send(gateway, sound + corrupt + no_image + skipped + gap + mixed)
    jobs = {job.series_uid: job for job in gateway.wait_for_study(study, PATIENCE)}
    lines = gateway.index.lines(study)
    series = {
        name: pydicom.dcmread(files[0]).SeriesInstanceUID
        for name, files in {"sound": sound, "no_image": no_image, "gap": gap, "mixed": mixed}.items()
    }
    assert jobs[series["sound"]].state == JobState.DONE
    said = {line.series_uid: [] for line in lines if line.level == "error"}
    for line in lines:
        if line.level == "error":
            said[line.series_uid].append(line.text)
            assert "\n" not in line.text and "Traceback" not in line.text
    assert series["sound"] not in said
    (line,) = [line for line in lines if line.series_uid == report.SeriesInstanceUID]
    assert line.level == "info" and "skipped_modalities" in line.text and line.series_uid not in jobs
    for name in ("no_image", "gap"):
        assert len(said[series[name]]) == 1, said
        assert jobs[series[name]].state == JobState.REFUSED
    corrupt_lines = [texts for uid, texts in said.items() if uid not in series.values()]
    assert len(corrupt_lines) == 1 and len(corrupt_lines[0]) == 1
    page = httpx.get(f"http://127.0.0.1:{gateway.ports.web}/studies/{study}").text
    assert page.count('class="state error"') == len([line for line in lines if line.level == "error"])


@pytest.mark.slow
def test_a_sick_destination_gets_its_results_when_it_is_back(
    tmp_path: Path, make_ct_series: Any, threshold_assistant: Any
) -> None:
    received: list[str] = []

    def answer(event: Any) -> int:
        received.append(event.request.AffectedSOPInstanceUID)
        return 0x0000

    def start_pacs(port: int) -> Any:
        ae = AE("PACS")
        ae.add_supported_context(SegmentationStorage)
        ae.add_supported_context(Comprehensive3DSRStorage)
        return ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, answer)])

    pacs = start_pacs(0)
    port = pacs.server_address[1]
    pacs.shutdown()
    configured = settings(
        tmp_path / "state",
        routes=[{"name": "r", "prompts": ["liver"], "destinations": ["pacs", "folder"]}],
        destinations={
            "pacs": {"type": "c_store", "host": "127.0.0.1", "port": port, "called_ae": "PACS"},
            "folder": {"type": "folder", "path": "results"},
        },
    )
    files = make_ct_series(2)
    study = pydicom.dcmread(files[0]).StudyInstanceUID
    with Gateway(configured, threshold_assistant) as gateway:
        send(gateway, files)

        def states() -> dict[str, str]:
            jobs = gateway.ledger.jobs(study)
            return {row.destination: row.state for row in gateway.ledger.deliveries(jobs[0].job_id)} if jobs else {}

        assert gateway._wait(lambda: states() == {"pacs": "waiting", "folder": "delivered"}, PATIENCE)
        assert not gateway.is_idle()
        address = f"http://127.0.0.1:{gateway.ports.web}"
        page, metrics = httpx.get(address).text, httpx.get(f"{address}/metrics").text
        assert "suspended" in page and f"PACS at 127.0.0.1:{port} does not answer" in page
        assert 'rcmed_destination_ok{destination="pacs"} 0.0' in metrics
        assert 'rcmed_destination_ok{destination="folder"} 1.0' in metrics
        health = httpx.get(f"{address}/healthz")
        assert health.status_code == 200  # a sick destination is no fault of the gateway
        (told,) = health.json()["attention"].items()
        assert told[0] == "destination pacs" and "suspended" in told[1] and "does not answer" in told[1]
    # The gateway was stopped in the middle of the waiting; the next one goes on.
    pacs = start_pacs(port)
    try:
        with Gateway(configured, threshold_assistant) as gateway:
            jobs = gateway.wait_for_study(study, PATIENCE)
            assert [job.state for job in jobs] == [JobState.DONE]
            delivery = next(row for row in gateway.ledger.deliveries(jobs[0].job_id) if row.destination == "pacs")
            assert delivery.attempts > 1
            assert sorted(delivery.delivered) == sorted(received)
            assert len(received) == 2
            assert gateway.metrics.registry.get_sample_value("rcmed_destination_ok", {"destination": "pacs"}) == 1
        exports = [
            (record["destination"], record["outcome"], record["confirmed_by"])
            for record in map(json.loads, (tmp_path / "state" / "audit.jsonl").read_text().splitlines())
            if record["event"]["meaning"] == "Export"
        ]
        assert exports == [("folder", 0, "written and synced"), ("pacs", 0, "C-STORE status")]
    finally:
        pacs.shutdown()
    assert len(threshold_assistant.calls) == 1


@pytest.mark.slow
def test_a_failing_assistant_fails_its_job_with_a_line(tmp_path: Path, make_ct_series: Any) -> None:
    class Failing:
        from rcmed.findings import ModelIdentity

        identity = ModelIdentity("failing", "1", "1" * 64)

        def find(self, image: Any, prompts: Any) -> Any:
            raise ValueError("the weights are of lead")

    files = make_ct_series(2)
    study = pydicom.dcmread(files[0]).StudyInstanceUID
    with Gateway(settings(tmp_path / "state"), Failing()) as gateway:
        send(gateway, files)
        jobs = gateway.wait_for_study(study, PATIENCE)
        assert [job.state for job in jobs] == [JobState.FAILED]
        assert any("the weights are of lead" in line.text for line in gateway.index.lines(study))


@pytest.mark.slow
def test_a_state_folder_serves_one_gateway(gateway: Gateway, threshold_assistant: Any) -> None:
    with pytest.raises(ConfigurationError, match="in use by another gateway"):
        Gateway(gateway.settings, threshold_assistant).start()
    assert gateway.health()["receive"] == "ok"


@pytest.mark.slow
def test_a_taken_port_is_told_by_its_key(tmp_path: Path, threshold_assistant: Any) -> None:
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        configured = settings(tmp_path / "state")
        receive = configured.receive.model_copy(update={"port": other.getsockname()[1]})
        with pytest.raises(ConfigurationError, match=r"receive\.port"):
            Gateway(configured.model_copy(update={"receive": receive}), threshold_assistant).start()
    with Gateway(configured, threshold_assistant) as again:
        assert again.ports.dicom


@pytest.mark.slow
def test_status_page(gateway: Gateway, make_ct_series: Any) -> None:
    files = make_ct_series(2)
    study = pydicom.dcmread(files[0]).StudyInstanceUID
    with httpx.Client(base_url=f"http://127.0.0.1:{gateway.ports.web}") as client:
        assert client.get("/healthz").json()["status"] == "ok" and "attention" not in client.get("/healthz").json()
        assert "nothing was received yet" in client.get("/").text
        send(gateway, files)
        jobs = gateway.wait_for_study(study, PATIENCE)
        assert study in client.get("/").text
        page = client.get(f"/studies/{study}").text
        for part in ("liver", "spleen", "absent", "found", "no such target", "delivered", "overlay-1.png"):
            assert part in page
        picture = client.get(f"/jobs/{jobs[0].job_id}/overlay-1.png")
        assert picture.headers["content-type"] == "image/png"
        assert picture.content.startswith(b"\x89PNG")
        for path in (
            "/studies/1.2.3",
            f"/jobs/{jobs[0].job_id}/segmentation.dcm",
            f"/jobs/{jobs[0].job_id}/..%2f..%2findex.sqlite",
            f"/jobs/{jobs[0].job_id}/overlay-9.png",
            "/jobs/abc/overlay-1.png",
        ):
            assert client.get(path).status_code == 404
        assert client.get("/", headers={"Host": "evil.example"}).status_code == 400
        assert "SYNTHETIC" not in page
