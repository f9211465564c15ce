"""Messages are delivered once, whatever befalls their receivers."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pydicom
import pytest

from dicom_bridge.delivery import open_destination
from dicom_bridge.delivery.destination import DeliveryReceipt, DestinationUnavailableError
from dicom_bridge.delivery.dimse.sending import send_files
from dicom_bridge.delivery.fhir import FhirTarget
from dicom_bridge.delivery.mllp import MllpTarget
from dicom_bridge.gateway.composition import Gateway
from dicom_bridge.messages.filing import file_messages
from dicom_bridge.results.identifiers import ResultIdentifiers
from dicom_bridge.results.kinds import MessageKind
from dicom_bridge.settings import DeliverySettings, FhirDestination, FolderDestination, GatewaySettings, MllpDestination
from dicom_bridge.store.states import DeliveryState, JobState
from mllp_listener import MllpListener, acknowledgement
from rcmed.errors import ConfigurationError

PATIENCE = 60.0


@pytest.fixture
def messages(sources: Any, tmp_path: Path) -> Callable[[str], dict[MessageKind, Path]]:
    """Writes the messages of a job; returns their files by kind."""

    def write(job: str) -> dict[MessageKind, Path]:
        folder = tmp_path / job
        folder.mkdir()
        image = sources.planar(folder)
        findings = sources.findings(image, sources.absent())
        filed = file_messages(image, findings, ResultIdentifiers.derive(job), folder, list(MessageKind))
        return dict(zip(MessageKind, filed.files, strict=True))

    return write


def mllp(port: int, **told: Any) -> MllpTarget:
    settings = MllpDestination(type="mllp", host="127.0.0.1", port=port, **told)
    return MllpTarget(settings, timeout_seconds=5)


def test_a_message_goes_out_addressed_and_is_acknowledged(messages: Any) -> None:
    path = messages("one")[MessageKind.HL7]
    with MllpListener() as listener:
        target = mllp(listener.port, receiving_application="RIS", receiving_facility="WARD", processing="T")
        assert target.check() == f"127.0.0.1:{listener.port} takes connections"
        receipt = target.deliver([path])
    (message,) = listener.messages
    assert message.split("\r")[0].split("|")[2:6] == ["RCMED", "", "RIS", "WARD"]
    assert message.split("\r")[0].split("|")[10] == "T"
    assert message.split("\r")[1:] == path.read_bytes().decode().split("\r")[1:]
    assert receipt == DeliveryReceipt((listener.control_ids[0],), (), "HL7 acknowledgement")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda message: acknowledgement(message, "AR"), "acknowledgement AR"),
        (lambda message: acknowledgement(message, "AE", "207"), "acknowledgement AE, error 207"),
        (lambda message: acknowledgement(message, of="OTHER"), "another message"),
        (lambda message: b"HTTP/1.1 400 Bad Request", "no acknowledgement"),
        (lambda message: None, "broke the connection"),
    ],
)
def test_a_receiver_that_can_t_take_it_now_is_sick(messages: Any, answer: Any, said: str) -> None:
    with MllpListener(answer=answer) as listener, pytest.raises(DestinationUnavailableError, match=said):
        mllp(listener.port).deliver([messages("one")[MessageKind.HL7]])


@pytest.mark.parametrize(("code", "error"), [("AE", ""), ("AE", "103"), ("AR", "200"), ("CE", "")])
def test_a_message_that_is_wrong_is_refused_and_the_next_one_goes_on(messages: Any, code: str, error: str) -> None:
    files = [messages(job)[MessageKind.HL7] for job in ("one", "two")]
    wrong = files[0].read_bytes().decode().split("|")[9]

    def answer(message: str) -> bytes:
        return acknowledgement(message, code, error) if message.split("|")[9] == wrong else acknowledgement(message)

    with MllpListener(answer=answer) as listener:
        receipt = mllp(listener.port).deliver(files)
    told = f"acknowledgement {code}" + (f", error {error}" if error else "")
    assert [(one.instance_uid, one.reason) for one in receipt.refused] == [(wrong, told)]
    assert receipt.delivered == (listener.control_ids[1],)


def test_what_was_acknowledged_before_the_connection_broke_is_not_sent_again(messages: Any) -> None:
    files = [messages(job)[MessageKind.HL7] for job in ("one", "two")]
    answers: list[bytes | None] = []

    def answer(message: str) -> bytes | None:
        answers.append(None if len(answers) == 1 else acknowledgement(message))
        return answers[-1]

    with MllpListener(answer=answer) as listener:
        target = mllp(listener.port)
        with pytest.raises(DestinationUnavailableError):
            target.deliver(files)
        assert len(target.deliver(files).delivered) == 2
        first, second, again = listener.control_ids
        assert again == second != first  # whose acknowledgement was lost: a receiver drops it by its number
        target.deliver(files[:1])
        assert listener.control_ids[3] == first  # an operator drives it again: the same number


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def routing(port: int, results: list[str], **destinations: Any) -> dict[str, Any]:
    told = {"ris": {"type": "mllp", "host": "127.0.0.1", "port": port}, **destinations}
    route = {"name": "ct", "prompts": ["liver", "spleen"], "destinations": list(told), "results": results}
    return {"routes": [route], "destinations": told}


def gateway_settings(root: Path, told: dict[str, Any]) -> GatewaySettings:
    return GatewaySettings.model_validate(
        {
            "state_folder": str(root),
            "receive": {"port": 0, "minimum_free_megabytes": 0},
            "completion": {"quiet_seconds": 5, "released_seconds": 0.1},
            "jobs": {"polling_seconds": 0.05},
            "delivery": {"first_wait_seconds": 0.1, "maximum_wait_seconds": 0.2, "timeout_seconds": 5},
            "web": {"enabled": False},
            "routing": told,
        }
    )


@pytest.mark.slow
def test_a_listener_that_is_down_for_a_while_gets_each_message_once(
    tmp_path: Path, threshold_assistant: Any, make_ct_series: Any
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as placeholder:
        port = placeholder.getsockname()[1]
    told = routing(port, ["sr", "hl7"], kept={"type": "folder", "path": "kept"})
    studies = []
    with Gateway(gateway_settings(tmp_path / "state", told), threshold_assistant) as gateway:
        for _ in range(2):
            files = make_ct_series(2)
            studies.append(str(pydicom.dcmread(files[0]).StudyInstanceUID))
            send_files(files, "127.0.0.1", gateway.ports.dicom, "RCMED", "CT01")

        def is_suspended() -> bool:
            return any(
                row.state == DeliveryState.WAITING and row.attempts > 1
                for study in studies
                for job in gateway.ledger.jobs(study)
                for row in gateway.ledger.deliveries(job.job_id)
            )

        assert gateway._wait(is_suspended, PATIENCE)
        with MllpListener(port) as listener:
            jobs = [gateway.wait_for_study(study, PATIENCE)[0] for study in studies]
    assert [job.state for job in jobs] == [JobState.DONE, JobState.DONE]
    assert len(listener.messages) == 2 == len(set(listener.control_ids))
    assert {study for study in studies for message in listener.messages if study in message} == set(studies)
    for study, job in zip(studies, jobs, strict=True):
        kept, ris = gateway.ledger.deliveries(job.job_id)
        assert (ris.state, ris.text) == (DeliveryState.DELIVERED, "confirmed by HL7 acknowledgement")
        assert set(ris.delivered) <= set(listener.control_ids) and len(kept.delivered) == 2
        names = {path.name for path in (tmp_path / "state" / "kept" / study).iterdir()}
        assert f"{ris.delivered[0]}.hl7" in names and len(names) == 2


@pytest.mark.slow
def test_a_destination_that_takes_nothing_of_what_was_written_is_not_asked(
    tmp_path: Path, threshold_assistant: Any, make_ct_series: Any
) -> None:
    away = {"type": "orthanc", "url": f"http://127.0.0.1:{free_port()}"}
    with MllpListener() as listener:
        told = routing(listener.port, ["secondary_capture", "hl7"], pacs=away)
        told["routes"][0]["prompts"] = ["spleen"]
        with Gateway(gateway_settings(tmp_path / "state", told), threshold_assistant) as gateway:
            files = make_ct_series(2)
            send_files(files, "127.0.0.1", gateway.ports.dicom, "RCMED", "CT01")
            (job,) = gateway.wait_for_study(str(pydicom.dcmread(files[0]).StudyInstanceUID), PATIENCE)
        pacs, ris = gateway.ledger.deliveries(job.job_id)
    assert (pacs.state, pacs.text) == (DeliveryState.DELIVERED, "nothing was written of what it takes")
    assert (job.state, ris.state, len(listener.messages)) == (JobState.DONE, DeliveryState.DELIVERED, 1)


class Server:
    """Answers FHIR requests as it is told, and creates each resource once."""

    def __init__(self) -> None:
        self.status = 200
        self.entry_status = "201 Created"
        self.created: list[str] = []
        self.posts = 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # noqa: N802
                bundle = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.posts += 1
                if server.status == 200:
                    wanted = [entry["request"]["ifNoneExist"] for entry in bundle["entry"]]
                    server.created += [one for one in wanted if one not in server.created]
                    entries = [{"response": {"status": server.entry_status}} for _ in wanted]
                    told = {"resourceType": "Bundle", "type": "transaction-response", "entry": entries}
                else:
                    issue = {"severity": "error", "code": "business-rule", "diagnostics": "Test^Patient"}
                    told = {"resourceType": "OperationOutcome", "issue": [issue]}
                self._answer(server.status, told)

            def do_GET(self) -> None:  # noqa: N802
                self._answer(200, {"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1"})

            def _answer(self, status: int, told: dict[str, Any]) -> None:
                content = json.dumps(told).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/fhir+json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *told: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server() -> Iterator[Server]:
    started = Server()
    yield started
    started.http.shutdown()
    started.http.server_close()


def test_a_fhir_server_creates_each_resource_once(server: Server, messages: Any) -> None:
    url = f"http://127.0.0.1:{server.http.server_address[1]}/fhir"
    target = FhirTarget(FhirDestination(type="fhir", url=url), 5)
    assert target.check() == f"{url} answers as FHIR 4.0.1"
    path = messages("one")[MessageKind.FHIR]
    server.status = 503
    with pytest.raises(DestinationUnavailableError, match="HTTP status 503"):
        target.deliver([path])
    server.status = 200
    first, second = target.deliver([path]), target.deliver([path])
    assert first == second and first.refused == () and first.confirmed_by == "FHIR transaction"
    assert (server.posts, len(server.created)) == (3, 3)
    server.entry_status = "412 Precondition Failed"
    assert [one.reason for one in target.deliver([path]).refused] == ["status 412 of an entry"]
    server.status = 422
    (refused,) = target.deliver([path]).refused
    assert refused.reason == "HTTP status 422 (business-rule)"  # and not the words, which name the patient


def test_a_folder_takes_messages_too(messages: Any, tmp_path: Path) -> None:
    files = messages("one")
    target = open_destination(FolderDestination(type="folder", path=tmp_path / "out"), tmp_path, DeliverySettings())
    receipt = target.deliver(list(files.values()))
    assert len(receipt.delivered) == 2 and receipt.refused == ()
    (study,) = (tmp_path / "out").iterdir()
    found = {path.suffix: path.read_bytes() for path in study.iterdir()}
    assert found == {path.suffix: path.read_bytes() for path in files.values()}


@pytest.mark.parametrize(
    ("results", "destination", "said"),
    [
        (["seg"], {"type": "mllp", "host": "ris", "port": 1}, "takes nothing of route 'ct': add hl7 to its results"),
        (["hl7"], {"type": "fhir", "url": "http://ris"}, "takes nothing of route 'ct': add fhir to its results"),
        (["hl7", "seg"], {"type": "orthanc", "url": "http://pacs"}, "no destination of route 'ct' takes hl7"),
    ],
)
def test_results_that_nobody_takes_are_a_mistake(results: list[str], destination: Any, said: str) -> None:
    route = {"name": "ct", "destinations": ["there"], "results": results}
    with pytest.raises((ConfigurationError, ValueError), match=said):
        GatewaySettings.model_validate({"routing": {"routes": [route], "destinations": {"there": destination}}})


@pytest.mark.parametrize("name", ["a|b", "a\rb", "a&b"])
def test_a_name_that_would_break_the_header_is_a_mistake(name: str) -> None:
    with pytest.raises(ValueError, match="sending_facility"):
        MllpDestination(type="mllp", host="ris", port=2575, sending_facility=name)
