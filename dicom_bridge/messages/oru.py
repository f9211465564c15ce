"""Findings as an HL7 v2.5.1 ORU^R01 (unsolicited observation), after IHE RAD-128 where that says something."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterator, Sequence

from pydicom.dataset import Dataset

from dicom_bridge.messages.content import (
    COMMENT,
    FINDING,
    LATERALITY,
    PRESENCE,
    PROBABILITY,
    SERIES,
    STUDY,
    ReportContent,
    date_of,
)
from dicom_bridge.results.codes import IMAGING_REPORT, PRIVATE_SCHEME, finding_name, model_name
from dicom_bridge.results.documents.wording import NOTHING_RECOGNISED, WARNING, in_words, name_components
from dicom_bridge.value_representation import as_time
from rcmed.codes import Code
from rcmed.findings import Finding

VERSION = "2.5.1"
CHARACTER_SET = "UNICODE UTF-8"
# Delimiters (2.7.1); a control character could end a segment (2.5.2) or a block of MLLP.
_ESCAPED = str.maketrans(
    {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\"}
    | {chr(code): " " for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)}
)
# Tables 0123 and 0085: stored, not yet verified. "Preliminary" would say that somebody verified it.
_NOT_VERIFIED = "R"
_NOT_OBTAINED = "X"
_RADIOLOGY = "RAD"  # table 0074
_SEXES = ("M", "F", "O")
_LONGEST_CONTROL_ID = 20


def build_oru(content: ReportContent) -> bytes:
    """Build the message.

    It has an OBX for the study and the series, and for each finding OBXs under one sub-ID (OBX-4): its code with what
    is said of it (CWE), its side, the probability and the measurements (NM), the words (TX). A prompt that was not
    answered is an OBX of status X. Whom it goes to (MSH-3 to 6, 11) is written when it is sent.

    Returns:
        UTF-8, segments ended by carriage returns; the same content gives the same bytes.
    Source: HL7 v2.5.1, chapters 2, 3 and 7.
    """
    segments = [_header(content), _patient(content.header), *_order(content), *_notes(content), *_results(content)]
    return ("\r".join(segments) + "\r").encode()


def control_id(uid: str) -> str:
    """Message Control ID (MSH-10, ST of at most 20 characters): the same whenever the message goes out."""
    return hashlib.sha256(uid.encode()).hexdigest()[:_LONGEST_CONTROL_ID].upper()


def _header(content: ReportContent) -> str:
    fields: list[str] = ["^~\\&", "RCMED", "", "", "", f"{content.created:%Y%m%d%H%M%S}", "", "ORU^R01^ORU_R01"]
    fields += [control_id(content.uid), "P", VERSION, "", "", "", "", "", CHARACTER_SET]
    return _segment("MSH", fields)


def _patient(header: Dataset) -> str:
    issuer = _text(str(header.get("IssuerOfPatientID") or ""))
    identifier = _components(_text(str(header.get("PatientID") or "")), "", "", issuer)
    sex = str(header.get("PatientSex") or "")
    fields = ["1", "", identifier, "", _name(str(header.get("PatientName") or "")), ""]
    fields += [date_of(header, "PatientBirthDate"), sex if sex in _SEXES else "U"]
    return _segment("PID", fields)


def _name(person: str) -> str:
    """A value of PN as XPN: suffix before prefix; a repetition for each component group (PS3.5 6.2.1.1)."""
    names = []
    for group, representation in zip(person.split("="), "AIP", strict=False):
        family, given, middle, prefix, suffix = map(_text, name_components(group))
        if group.strip("^ "):
            names.append(_components(family, given, middle, suffix, prefix, "", "L", representation))
    return "~".join(names)


def _order(content: ReportContent) -> Iterator[str]:
    """ORC and OBR: the numbers of the order, and accession number, procedure and step where IHE's workflow has them."""
    orders = content.orders
    placer = _identifier(orders.placer)
    filler = _identifier(orders.filler or orders.accession) or _components(control_id(content.uid), "RCMED")
    yield _segment("ORC", ["RE", placer, filler])
    study = date_of(content.header, "StudyDate")
    time = (as_time(str(content.header.get("StudyTime") or "")) or "").partition(".")[0]
    obr = [""] * 25
    obr[0], obr[1], obr[2], obr[3] = "1", placer, filler, _service(content.header)
    obr[6] = study + (time if study and len(time) in (4, 6) else "")
    obr[17], obr[18], obr[19] = (
        _text(number) for number in (orders.accession, orders.requested_procedure, orders.scheduled_step)
    )
    obr[21], obr[23], obr[24] = f"{content.created:%Y%m%d%H%M%S}", _RADIOLOGY, _NOT_VERIFIED
    yield _segment("OBR", obr)


def _service(header: Dataset) -> str:
    """The procedure as the source names it (0008,1032), else a report of imaging."""
    items = header.get("ProcedureCodeSequence") or ()
    for item in items:
        if item.get("CodeValue"):
            return _coded(Code(str(item.CodeValue), str(item.CodingSchemeDesignator), str(item.CodeMeaning)))
    return _coded(IMAGING_REPORT)


def _notes(content: ReportContent) -> Iterator[str]:
    model = content.findings.model
    lines = (
        WARNING,
        f"{model_name(model)} {model.version}, SHA-256 of the weights {model.weights_sha256}.",
    )
    for number, text in enumerate(lines, start=1):
        yield _segment("NTE", [str(number), "L", _text(text)])


def _results(content: ReportContent) -> Iterator[str]:
    number = 0
    for fields in _observations(content):
        number += 1
        yield _segment("OBX", [str(number), *fields])


def _observations(content: ReportContent) -> Iterator[list[str]]:
    """The fields of each OBX from the second on."""
    header, found = content.header, content.findings
    yield _observation("HD", _coded(STUDY), "", _components("", _text(str(header.StudyInstanceUID)), "ISO"))
    yield _observation("HD", _coded(SERIES), "", _components("", _text(str(header.SeriesInstanceUID)), "ISO"))
    for number, finding in enumerate(found.findings, start=1):
        yield from _finding(finding, str(number))
    if not found.findings:
        text = found.answer or NOTHING_RECOGNISED
        yield _observation("TX", _coded(COMMENT), "", _text(text))
    if content.document is not None:
        data = base64.b64encode(content.document).decode("ascii")
        yield _observation("ED", _coded(IMAGING_REPORT), "", _components("RCMED", "Application", "PDF", "Base64", data))


def _finding(finding: Finding, group: str) -> Iterator[list[str]]:
    presence = PRESENCE.get(finding.status)
    if finding.target is None or presence is None:
        yield _observation("TX", _coded(FINDING), group, _text(in_words(finding)), status=_NOT_OBTAINED)
        return
    name = finding_name(finding)
    yield _observation("CWE", _coded(finding.target.type, Code(name, PRIVATE_SCHEME, name)), group, _coded(presence))
    if finding.target.laterality is not None:
        yield _observation("CWE", _coded(LATERALITY), group, _coded(finding.target.laterality))
    if finding.presence is not None and math.isfinite(finding.presence):
        yield _observation("NM", _coded(PROBABILITY), group, _number(finding.presence), _unit("1"))
    for measured in finding.measurements:
        if math.isfinite(measured.value):
            yield _observation("NM", _coded(measured.code), group, _number(measured.value), _unit(measured.unit))
    yield _observation("TX", _coded(COMMENT), group, _text(in_words(finding)))


def _observation(
    kind: str, what: str, group: str, value: str, unit: str = "", status: str = _NOT_VERIFIED
) -> list[str]:
    return [kind, what, group, value, unit, "", "", "", "", status]


def _coded(code: Code, alternate: Code | None = None) -> str:
    """A code as CWE, with its name as an alternate one where there is one of ours."""
    codes = [code, *([] if alternate is None else [alternate])]
    return "^".join(_components(_text(one.value), _text(one.meaning), _text(one.scheme)) for one in codes)


def _unit(unit: str) -> str:
    return _components(_text(unit), "", "UCUM")


def _number(value: float) -> str:
    """A value of NM: digits without an exponent, six of them behind the point at most."""
    return f"{value:.0f}" if abs(value) >= 1e6 else f"{value:.6f}".rstrip("0").rstrip(".")


def _identifier(number: str) -> str:
    """An order number as EI; some sources tell its namespace behind a circumflex, as the order did."""
    return _components(*(_text(part) for part in number.split("^")[:4]))


def _components(*parts: str) -> str:
    return "^".join(parts).rstrip("^")


def _segment(name: str, fields: Sequence[str]) -> str:
    return "|".join([name, *fields]).rstrip("|")


def _text(text: str) -> str:
    """Text with what HL7 parts its messages by escaped (2.7)."""
    return text.translate(_ESCAPED).strip()
