"""Deliveries that Orthanc confirms: by storage commitment, C-FIND, QIDO-RS and its own look-up."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pydicom
import pytest

from dicom_bridge.delivery import open_destination
from dicom_bridge.delivery.destination import DestinationUnavailableError
from dicom_bridge.delivery.dimse.c_store import CStoreTarget
from dicom_bridge.delivery.dimse.sending import send_files
from dicom_bridge.gateway.composition import Gateway
from dicom_bridge.results.kinds import ResultKind
from dicom_bridge.settings import (
    CStoreDestination,
    DeliverySettings,
    OrthancDestination,
    StowDestination,
)
from dicom_bridge.store.states import DeliveryState, JobState

pytestmark = pytest.mark.integration
PATIENCE = 120.0


def run_job(gateway: Gateway, files: list[Any]) -> Any:
    send_files(files, "127.0.0.1", gateway.ports.dicom, "RCMED", "CT01")
    (job,) = gateway.wait_for_study(pydicom.dcmread(files[0]).StudyInstanceUID, PATIENCE)
    assert job.state == JobState.DONE
    (delivery,) = gateway.ledger.deliveries(job.job_id)
    assert (delivery.state, delivery.attempts, len(delivery.delivered)) == (DeliveryState.DELIVERED, 1, 2)
    return delivery


def test_orthanc_commits_itself_to_keep_the_results(
    start_gateway: Callable[..., Gateway], orthanc: Any, make_ct_series: Any
) -> None:
    gateway = start_gateway({**orthanc.destination, "commitment": "required"})
    orthanc.knows(gateway)
    assert run_job(gateway, make_ct_series(2)).text == "confirmed by storage commitment"
    assert sorted(orthanc.api.instances.get_all_ids()) != []


def test_without_a_report_the_results_are_found(orthanc: Any, make_ct_series: Any) -> None:
    """Orthanc offers commitment but can't reach us to report: its archive is asked instead."""
    orthanc.api.put("modalities/gateway", json={"AET": "RCMED", "Host": "127.0.0.1", "Port": 1})
    told = CStoreDestination(type="c_store", host="127.0.0.1", port=orthanc.port, called_ae="ORTHANC")
    files = make_ct_series(2)
    receipt = CStoreTarget(told, 30, commitment_seconds=0.5).deliver(files)
    assert (len(receipt.delivered), receipt.confirmed_by) == (2, "C-FIND")
    strict = told.model_copy(update={"commitment": "required"})
    with pytest.raises(DestinationUnavailableError, match="storage commitment"):
        CStoreTarget(strict, 30, commitment_seconds=0.5).deliver(files)


def test_a_peer_that_answers_no_questions_is_taken_by_its_status(orthanc: Any, make_ct_series: Any) -> None:
    """Orthanc takes C-STORE of anyone, and refuses commitment and C-FIND to those it does not know."""
    told = CStoreDestination(type="c_store", host="127.0.0.1", port=orthanc.port, called_ae="ORTHANC")
    receipt = CStoreTarget(told, 30).deliver(make_ct_series(1))
    assert (len(receipt.delivered), receipt.confirmed_by) == (1, "C-STORE status")


@pytest.mark.parametrize("kind", ["stow", "orthanc"])
def test_results_go_by_http_and_are_looked_up(
    start_gateway: Callable[..., Gateway], orthanc: Any, make_ct_series: Any, kind: str
) -> None:
    url = orthanc.dicom_web if kind == "stow" else orthanc.url
    gateway = start_gateway({"type": kind, "url": url})
    delivery = run_job(gateway, make_ct_series(3))
    assert delivery.text == {"stow": "confirmed by QIDO-RS", "orthanc": "confirmed by Orthanc look-up"}[kind]
    stored = {instance["MainDicomTags"]["SOPInstanceUID"] for instance in orthanc.api.get_json("instances?expand")}
    assert stored == set(delivery.delivered)


@pytest.mark.parametrize("kind", ["c_store", "stow"])
def test_every_kind_of_result_is_delivered_and_confirmed(
    start_gateway: Callable[..., Gateway], orthanc: Any, make_ct_series: Any, kind: str
) -> None:
    by = (
        {"type": kind, "url": orthanc.dicom_web}
        if kind == "stow"
        else {**orthanc.destination, "commitment": "required"}
    )
    route = {"name": "ct", "prompts": ["liver"], "destinations": ["results"], "results": list(ResultKind)}
    gateway = start_gateway({}, routing={"routes": [route], "destinations": {"results": by}})
    orthanc.knows(gateway)
    files = make_ct_series(3)
    send_files(files, "127.0.0.1", gateway.ports.dicom, "RCMED", "CT01")
    study = pydicom.dcmread(files[0]).StudyInstanceUID
    (job,) = gateway.wait_for_study(study, PATIENCE)
    (delivery,) = gateway.ledger.deliveries(job.job_id)
    assert (delivery.state, delivery.refused) == (DeliveryState.DELIVERED, [])
    assert delivery.text == ("confirmed by QIDO-RS" if kind == "stow" else "confirmed by storage commitment")
    stored = orthanc.api.get_json("instances?expand&requestedTags=Modality;StudyInstanceUID")
    assert {one["MainDicomTags"]["SOPInstanceUID"] for one in stored} == set(delivery.delivered)
    modalities = [series["MainDicomTags"]["Modality"] for series in orthanc.api.get_json("series?expand")]
    assert sorted(modalities) == ["DOC", "KO", "OT", "RTSTRUCT", "SEG", "SR"]
    assert [one["MainDicomTags"]["StudyInstanceUID"] for one in orthanc.api.get_json("studies?expand")] == [study]


@pytest.mark.parametrize("kind", ["stow", "orthanc"])
def test_the_same_again_is_stored_once_and_garbage_is_refused(
    orthanc: Any, make_ct_series: Any, tmp_path: Any, kind: str
) -> None:
    told = (
        StowDestination(type="stow", url=orthanc.dicom_web)
        if kind == "stow"
        else OrthancDestination(type="orthanc", url=orthanc.url)
    )
    target = open_destination(told, tmp_path, DeliverySettings())
    assert orthanc.url in target.check()
    files = make_ct_series(2)
    for _ in range(2):
        assert len(target.deliver(files).delivered) == 2
    assert len(orthanc.api.instances.get_all_ids()) == 2
    broken = pydicom.dcmread(files[0])
    del broken.StudyInstanceUID, broken.SeriesInstanceUID, broken.SOPInstanceUID, broken.PatientID
    # STOW-RS would be asked about the study that it names, so it can't go without.
    if kind == "orthanc":
        broken.save_as(tmp_path / "broken.dcm")
        (tmp_path / "broken.dcm").write_bytes((tmp_path / "broken.dcm").read_bytes()[:400])
        receipt = target.deliver([tmp_path / "broken.dcm", files[1]])
        assert (len(receipt.refused), len(receipt.delivered)) == (1, 1)


def test_orthanc_is_told_what_we_keep(start_gateway: Callable[..., Gateway], orthanc: Any, make_ct_series: Any) -> None:
    """Orthanc asks for storage commitment; our report comes on an association that we open to its port."""
    report_to = {"host": "127.0.0.1", "port": orthanc.port}
    gateway = start_gateway(
        {"type": "folder", "path": "results"},
        receive={
            "port": 0,
            "minimum_free_megabytes": 0,
            "peers": [
                {"name": "orthanc", "calling_ae": ["ORTHANC"], "addresses": ["127.0.0.1"], "report_to": report_to}
            ],
        },
    )
    orthanc.knows(gateway)
    api = orthanc.api
    ids = [api.upload_file(str(file))[0] for file in make_ct_series(3)]
    api.post("modalities/gateway/store", json={"Resources": ids[:2], "Synchronous": True})
    asked = api.post("modalities/gateway/storage-commitment", json={"Resources": ids}).json()

    def report() -> dict[str, Any]:
        return dict(api.get_json(f"storage-commitment/{asked['ID']}"))

    wait_until(lambda: report()["Status"] != "Pending", "Orthanc has our report")
    told = report()
    assert told["Status"] == "Failure"
    assert len(told["Success"]) == 2 and len(told["Failures"]) == 1
    assert told["Failures"][0]["FailureReason"] == 0x0112  # no such object instance


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
