"""Findings as FHIR R4 resources: a DiagnosticReport, an Observation for each finding, the model as a Device."""

from __future__ import annotations

import base64
import math
import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from dicom_bridge.manufacturer import MANUFACTURER
from dicom_bridge.messages.content import PRESENCE, PROBABILITY, ReportContent, date_of
from dicom_bridge.results.codes import IMAGING_REPORT, PRIVATE_SCHEME, finding_name, model_name
from dicom_bridge.results.documents.wording import in_words, outcome, shown_date, shown_name
from dicom_bridge.results.identifiers import derive_uid
from dicom_bridge.results.provenance import RESEARCH
from rcmed.codes import Code
from rcmed.errors import InputError
from rcmed.findings import Finding, FindingStatus

Resource = dict[str, Any]
_SYSTEMS = {
    "SCT": "http://snomed.info/sct",
    "LN": "http://loinc.org",
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    PRIVATE_SCHEME: "urn:rcmed:codes",
}
_TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"
_UNITS = "http://unitsofmeasure.org"
_INTERPRETATIONS = {
    FindingStatus.FOUND: ("POS", "Positive"),
    FindingStatus.ABSENT: ("NEG", "Negative"),
    FindingStatus.IMPLAUSIBLE: ("NEG", "Negative"),
    FindingStatus.UNCERTAIN: ("IND", "Indeterminate"),
}
# "preliminary" is what FHIR calls a report that is not verified.
_STATUS = "preliminary"


def build_bundle(content: ReportContent) -> bytes:
    """Build a transaction that a FHIR server takes whole or not at all.

    Each resource has an identifier that derives from the job and is created only where none has it, so that a bundle
    that comes again changes nothing. Patient, study and order are told by their identifiers (logical references): the
    server knows them under ids of its own.

    Returns:
        JSON in UTF-8, validated against the resources' definitions; the same content gives the same bytes.
    Raises:
        ImportError: the library that knows the definitions is not installed.
        InputError: something of the source is what no resource may hold; the line names the element, not its value.
    Source: FHIR R4 (4.0.1; 4.3.0 has the same DiagnosticReport, Observation and Device).
    """
    from fhir.resources.R4B.bundle import Bundle  # half a second of CPU and more, which nothing else needs

    device = _device(content)
    observations = [
        _observation(content, number, finding, device) for number, finding in enumerate(content.findings.findings)
    ]
    report = _report(content, observations)
    bundle = {
        "resourceType": "Bundle",
        "identifier": _uid(content.uid),
        "type": "transaction",
        "timestamp": _instant(content.created),
        "entry": [_entry(resource) for resource in (report, *observations, device)],
    }
    try:
        return (Bundle.model_validate(bundle).model_dump_json(indent=2) + "\n").encode()
    except ValidationError as error:
        places = {".".join(str(part) for part in one["loc"]) for one in error.errors(include_input=False)}
        raise InputError(f"the source gives what FHIR does not take in {', '.join(sorted(places))}") from None


def _entry(resource: Resource) -> Resource:
    identifier = resource["identifier"][0]
    kind = resource["resourceType"]
    condition = f"identifier={identifier['system']}|{identifier['value']}"
    return {
        "fullUrl": _full_url(resource),
        "resource": resource,
        "request": {"method": "POST", "url": kind, "ifNoneExist": condition},
    }


def _full_url(resource: Resource) -> str:
    return f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, resource['identifier'][0]['value'])}"


def _report(content: ReportContent, observations: list[Resource]) -> Resource:
    found = content.findings
    model = f"{model_name(found.model)} {found.model.version}, weights {found.model.weights_sha256}"
    lines = [f"{finding_name(finding)}: {outcome(finding)}" for finding in found.findings] or [found.answer]
    report: Resource = {
        "resourceType": "DiagnosticReport",
        "identifier": [_uid(content.uid)],
        "basedOn": _orders(content),
        "status": _STATUS,
        "category": [{"coding": [{"system": f"{_TERMINOLOGY}/v2-0074", "code": "RAD", "display": "Radiology"}]}],
        "code": _concept(IMAGING_REPORT),
        "subject": _patient(content),
        "effectiveDateTime": shown_date(date_of(content.header, "StudyDate")),
        "issued": _instant(content.created),
        "result": [{"reference": _full_url(one)} for one in observations],
        "imagingStudy": [_study(content)],
        "conclusion": f"{RESEARCH}, verified by nobody. {'; '.join(lines)}. Made by {model}.",
    }
    if content.document is not None:
        data = base64.b64encode(content.document).decode("ascii")
        report["presentedForm"] = [{"contentType": "application/pdf", "data": data, "title": f"Report, {RESEARCH}"}]
    return _without_empty(report)


def _observation(content: ReportContent, number: int, finding: Finding, device: Resource) -> Resource:
    target, presence = finding.target, PRESENCE.get(finding.status)
    observation: Resource = {
        "resourceType": "Observation",
        "identifier": [_uid(content.finding_uid(number))],
        "status": _STATUS,
        "category": [
            {"coding": [{"system": f"{_TERMINOLOGY}/observation-category", "code": "imaging", "display": "Imaging"}]}
        ],
        "code": {"text": finding_name(finding)} if target is None else _concept(target.type, finding_name(finding)),
        "subject": _patient(content),
        "effectiveDateTime": shown_date(date_of(content.header, "StudyDate")),
        "issued": _instant(content.created),
        "note": [{"text": in_words(finding)}, {"text": f"{RESEARCH}, verified by nobody."}],
        "device": {"reference": _full_url(device)},
        "derivedFrom": [_study(content)],
        "component": _components(finding),
    }
    if presence is None or target is None:
        reason = {"system": f"{_TERMINOLOGY}/data-absent-reason", "code": "not-performed", "display": "Not Performed"}
        observation["status"] = "cancelled"
        observation["dataAbsentReason"] = {"coding": [reason], "text": outcome(finding)}
        return _without_empty(observation)
    observation["valueCodeableConcept"] = _concept(presence)
    code, display = _INTERPRETATIONS[finding.status]
    interpretation = {"system": f"{_TERMINOLOGY}/v3-ObservationInterpretation", "code": code, "display": display}
    observation["interpretation"] = [{"coding": [interpretation]}]
    sites = [code for code in (target.region, target.laterality) if code is not None]
    if sites:
        observation["bodySite"] = {"coding": [_coding(code) for code in sites], "text": target.name}
    return _without_empty(observation)


def _components(finding: Finding) -> list[Resource]:
    values = []
    if finding.presence is not None and math.isfinite(finding.presence):
        values.append((PROBABILITY, float(finding.presence), "1"))
    values += [(m.code, float(m.value), m.unit) for m in finding.measurements if math.isfinite(m.value)]
    return [
        {
            "code": _concept(code),
            "valueQuantity": {"value": float(f"{value:.6g}"), "unit": unit, "system": _UNITS, "code": unit},
        }
        for code, value, unit in values
    ]


def _device(content: ReportContent) -> Resource:
    model = content.findings.model
    return {
        "resourceType": "Device",
        "identifier": [_uid(str(derive_uid("device", model.name, model.version, model.weights_sha256)))],
        "manufacturer": MANUFACTURER,
        "serialNumber": model.weights_sha256,
        "deviceName": [{"name": model_name(model), "type": "model-name"}],
        "version": [{"value": model.version}],
        "note": [{"text": f"{RESEARCH}. The serial number is the SHA-256 of the weights."}],
    }


def _patient(content: ReportContent) -> Resource:
    identifier = str(content.header.get("PatientID") or "")
    issuer = str(content.header.get("IssuerOfPatientID") or "")
    number = _without_empty({"value": identifier, "assigner": {"display": issuer} if issuer else None})
    return _without_empty({"type": "Patient", "identifier": number, "display": shown_name(content.header) or "no name"})


def _study(content: ReportContent) -> Resource:
    uid = f"urn:oid:{content.header.StudyInstanceUID}"
    return {"type": "ImagingStudy", "identifier": {"system": "urn:dicom:uid", "value": uid}}


def _orders(content: ReportContent) -> list[Resource]:
    """The order by each of its numbers (table 0203: placer, filler, accession)."""
    orders = content.orders
    numbers = (("PLAC", orders.placer), ("FILL", orders.filler), ("ACSN", orders.accession))
    return [
        {
            "type": "ServiceRequest",
            "identifier": {"type": {"coding": [{"system": f"{_TERMINOLOGY}/v2-0203", "code": kind}]}, "value": number},
        }
        for kind, number in numbers
        if number
    ]


def _concept(code: Code, words: str = "") -> Resource:
    return {"coding": [_coding(code)], "text": words or code.meaning}


def _coding(code: Code) -> Resource:
    system = _SYSTEMS.get(code.scheme, f"urn:rcmed:scheme:{code.scheme}")
    return {"system": system, "code": code.value, "display": code.meaning}


def _uid(uid: str) -> Resource:
    return {"system": "urn:ietf:rfc:3986", "value": f"urn:oid:{uid}"}


def _instant(time: datetime) -> str:
    """With the offset of this machine: FHIR wants one (2.24.0.1, instant)."""
    return time.astimezone().isoformat(timespec="seconds")


def _without_empty(resource: Mapping[str, Any]) -> Resource:
    """FHIR knows no empty values."""
    return {name: value for name, value in resource.items() if value not in (None, "", [], {})}
