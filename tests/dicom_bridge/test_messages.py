"""Messages as other libraries read them: hl7apy and hl7 the ORU^R01, fhirclient the FHIR resources."""

from __future__ import annotations

import base64
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import hl7
import numpy as np
import pytest
from fhirclient.models.bundle import Bundle
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.parser import parse_message
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_bridge.messages.filing import file_messages
from dicom_bridge.results.documents.encapsulated_pdf import pages_of
from dicom_bridge.results.filing import file_results
from dicom_bridge.results.identifiers import ResultIdentifiers
from dicom_bridge.results.kinds import MessageKind, ResultKind
from rcmed.codes import Code
from rcmed.findings import Finding, FindingStatus
from rcmed.image import Image
from result_sources import MODEL

IDENTIFIERS = ResultIdentifiers.derive("job", datetime(2026, 3, 4, 5, 6, 7))
HARD = "Bright & round | 1^2 ~ 3\\4\nand more"
EVERY = (ResultKind.PDF, *MessageKind)


@pytest.fixture
def image(sources: Any, tmp_path: Path) -> Image:
    folder = tmp_path / "source"
    folder.mkdir()
    told: Image = sources.volume(
        folder,
        shape=(4, 9, 8),
        SpecificCharacterSet="ISO_IR 192",
        PatientName="Müller^Anna^B^Dr^MD=山田^花",
        IssuerOfPatientID="HOSP",
        PlacerOrderNumberImagingServiceRequest="P|77",
        FillerOrderNumberImagingServiceRequest="F88^RIS",
    )
    return told


def filed(sources: Any, image: Image, folder: Path, kinds: Any = tuple(MessageKind)) -> Path:
    mask = np.zeros(image.grid.shape, dtype=bool)
    mask[1, 2:7, 2:6] = True
    kidney = sources.target("left kidney", "64033007", 1, laterality=Code("7771000", "SCT", "Left"))
    findings = sources.findings(
        image,
        sources.found(mask, prompt="liver, please", description=HARD),
        sources.absent("spleen"),
        sources.unresolved(),
        sources.found(mask, kidney, status=FindingStatus.UNCERTAIN, presence=0.5),
        Finding("prostate", sources.target("prostate", "41216001"), FindingStatus.IMPLAUSIBLE, 0.8, reason="a head"),
    )
    objects = [kind for kind in kinds if isinstance(kind, ResultKind)]
    pages = file_results(image, findings, IDENTIFIERS, folder, objects).pages if objects else None
    messages = [kind for kind in kinds if isinstance(kind, MessageKind)]
    told = file_messages(image, findings, IDENTIFIERS, folder, messages, pages)
    assert told.refusals == () and len(told.files) == len(kinds) - len(objects)
    return folder


def observations(message: hl7.Message) -> list[tuple[str, str, str, str]]:
    """(sub-ID, code, value, status) of each OBX."""
    return [(str(obx[4]), str(obx[3][0][0]), str(obx[5]), str(obx[11])) for obx in message.segments("OBX")]


def test_hl7apy_finds_nothing_to_object(sources: Any, image: Image, tmp_path: Path) -> None:
    text = (filed(sources, image, tmp_path) / "report.hl7").read_bytes().decode()
    message = parse_message(text, validation_level=VALIDATION_LEVEL.STRICT, find_groups=True)
    assert message.name == "ORU_R01" and message.validate()
    (result,) = message.oru_r01_patient_result
    assert result.oru_r01_patient.pid.pid_3.cx_1.value == "T1"


def test_the_order_the_patient_and_every_finding_are_told(sources: Any, image: Image, tmp_path: Path) -> None:
    message = hl7.parse((filed(sources, image, tmp_path) / "report.hl7").read_bytes().decode())
    header, patient, request = (message.segment(name) for name in ("MSH", "PID", "OBR"))
    assert (str(header[9]), str(header[12]), str(header[18])) == ("ORU^R01^ORU_R01", "2.5.1", "UNICODE UTF-8")
    assert len(str(header[10])) == 20 and str(header[10]).isalnum()
    assert str(patient[3]) == "T1^^^HOSP" and (str(patient[7]), str(patient[8])) == ("19700101", "O")
    assert str(patient[5]) == "Müller^Anna^B^MD^Dr^^L^A~山田^花^^^^^L^I"
    assert (message.unescape(str(request[2])), str(request[3]), str(request[18])) == ("P|77", "F88^RIS", "A1")
    assert (str(request[7]), str(request[22]), str(request[25])) == ("20240102112501", "20260304050607", "R")
    assert "RESEARCH USE ONLY" in str(message.segments("NTE")[0])
    assert MODEL.weights_sha256 in str(message.segments("NTE")[1])
    said = observations(message)
    assert said[0][1:3] == ("113014", f"^{image.sources[0].study_instance_uid}^ISO")
    assert [one for one in said if one[1] not in ("121106", "113014", "112002")] == [
        ("1", "10200004", "121053^Present^DCM", "R"),
        ("1", "122157", "0.97", "R"),
        ("1", "118565006", "1.5", "R"),
        ("2", "78961009", "121054^Absent^DCM", "R"),
        ("2", "122157", "0.02", "R"),
        ("3", "121071", "flux capacitor: not looked for (no target of this name)", "X"),
        ("4", "64033007", "121059^Presence Undetermined^DCM", "R"),
        ("4", "272741003", "7771000^Left^SCT", "R"),
        ("4", "122157", "0.5", "R"),
        ("4", "118565006", "1.5", "R"),
        ("5", "41216001", "121054^Absent^DCM", "R"),
        ("5", "122157", "0.8", "R"),
    ]
    words = [message.unescape(value) for group, code, value, _ in said if (group, code) == ("1", "121106")]
    assert words == [HARD.replace("\n", " ")]
    assert ("5", "121106", "prostate: not found, implausible (a head)", "R") in said


def test_without_numbers_the_accession_number_is_the_filler_s(sources: Any, tmp_path: Path) -> None:
    request = Dataset()
    request.RequestedProcedureID, request.ScheduledProcedureStepID = "RP5", "SPS6"
    image = sources.planar(tmp_path, RequestAttributesSequence=[request])
    findings = sources.findings(image)
    assert file_messages(image, findings, IDENTIFIERS, tmp_path / "out", list(MessageKind)).refusals == ()
    message = hl7.parse((tmp_path / "out" / "report.hl7").read_bytes().decode())
    obr = message.segment("OBR")
    assert [str(obr[place]) for place in (2, 3, 18, 19, 20)] == ["", "A1", "A1", "RP5", "SPS6"]
    assert observations(message)[-1][2] == "It is [SEG]."


def test_fhirclient_reads_the_resources(sources: Any, image: Image, tmp_path: Path) -> None:
    told = json.loads((filed(sources, image, tmp_path) / "report.fhir.json").read_text())
    bundle = Bundle(told, strict=True)
    report, *others = [entry.resource for entry in bundle.entry]
    device = others.pop()
    assert (bundle.type, report.status, report.subject.identifier.value) == ("transaction", "preliminary", "T1")
    numbers = {one.identifier.type.coding[0].code: one.identifier.value for one in report.basedOn}
    assert numbers == {"PLAC": "P|77", "FILL": "F88^RIS", "ACSN": "A1"}
    assert report.imagingStudy[0].identifier.value == f"urn:oid:{image.sources[0].study_instance_uid}"
    assert "RESEARCH USE ONLY" in report.conclusion and "flux capacitor: not looked for" in report.conclusion
    assert device.serialNumber == MODEL.weights_sha256
    assert [reference.reference for reference in report.result] == [entry.fullUrl for entry in bundle.entry[1:-1]]
    values = [one.valueCodeableConcept and one.valueCodeableConcept.coding[0].code for one in others]
    assert values == ["121053", "121054", None, "121059", "121054"]
    assert [one.interpretation and one.interpretation[0].coding[0].code for one in others] == [
        *("POS", "NEG", None, "IND", "NEG")
    ]
    assert (others[2].status, others[2].dataAbsentReason.coding[0].code) == ("cancelled", "not-performed")
    volume = others[0].component[1].valueQuantity
    assert (volume.value, volume.code, volume.system) == (1.5, "cm3", "http://unitsofmeasure.org")
    assert others[3].bodySite.coding[0].code == "7771000"
    for entry in bundle.entry:
        identifier = entry.resource.identifier[0]
        assert entry.request.ifNoneExist == f"identifier={identifier.system}|{identifier.value}"


def test_what_a_source_has_wrong_breaks_no_message(sources: Any, tmp_path: Path) -> None:
    image = sources.planar(
        tmp_path,
        StudyDate="2024.1.2",
        PatientBirthDate="19700231",
        PatientName="Dark\x1c\x0bOne^Anna",
        PatientID="",
    )
    rare = Finding("spleen", sources.target("spleen", "78961009"), FindingStatus.ABSENT, 0.00002)
    filed = file_messages(image, sources.findings(image, rare), IDENTIFIERS, tmp_path / "out", list(MessageKind))
    assert filed.refusals == ()
    text = (tmp_path / "out" / "report.hl7").read_bytes().decode()
    message = hl7.parse(text)
    assert len(text.splitlines()) == text.count("\r")  # nothing in it that a receiver could take for a segment's end
    assert not [character for character in text if character < " " and character != "\r"]
    assert [str(message.segment("PID")[place]) for place in (3, 5, 7)] == ["", "Dark One^Anna^^^^^L^A", ""]
    assert str(message.segment("OBR")[7]) == ""
    assert ("1", "122157", "0.00002", "R") in observations(message)  # NM has no exponent
    bundle = Bundle(json.loads((tmp_path / "out" / "report.fhir.json").read_text()), strict=True)
    report = bundle.entry[0].resource
    assert report.effectiveDateTime is None and report.subject.identifier is None
    assert report.subject.display.startswith("Dark")


def test_what_fhir_does_not_take_is_refused_without_its_value(
    sources: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = sources.planar(tmp_path)
    findings = sources.findings(image, sources.absent())
    monkeypatch.setattr("dicom_bridge.messages.resources.shown_name", lambda header: 7)
    filed = file_messages(image, findings, IDENTIFIERS, tmp_path / "out", list(MessageKind))
    assert [path.name for path in filed.files] == ["report.hl7"]
    (refusal,) = filed.refusals
    assert refusal.startswith("no FHIR is written: the source gives what FHIR does not take in entry.0.resource.")


def test_the_pages_of_the_report_are_in_both(sources: Any, image: Image, tmp_path: Path) -> None:
    folder = filed(sources, image, tmp_path / "out", EVERY)
    pages = pages_of(dcmread(folder / "document.dcm"))
    message = hl7.parse((folder / "report.hl7").read_bytes().decode())
    told = message.segments("OBX")[-1]
    assert (str(told[2]), base64.b64decode(str(told[5][0][4]))) == ("ED", pages)
    bundle = json.loads((folder / "report.fhir.json").read_text())
    (form,) = bundle["entry"][0]["resource"]["presentedForm"]
    assert (form["contentType"], base64.b64decode(form["data"])) == ("application/pdf", pages)


def test_the_same_job_gives_the_same_messages(sources: Any, image: Image, tmp_path: Path) -> None:
    first, second = (filed(sources, image, tmp_path / name, EVERY) for name in ("first", "second"))
    for name in ("report.hl7", "report.fhir.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
