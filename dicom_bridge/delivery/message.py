"""A message that is to be sent: the file, what identifies it, and whose study it is about."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from dicom_bridge.results.kinds import HL7_SUFFIX

_OID = "urn:oid:"
_STUDY = "113014^"  # DCM, DICOM Study; not from `dicom_bridge.messages`, whose libraries receiving does without


@dataclass(frozen=True)
class OutgoingMessage:
    """A message.

    Attributes:
        path: of its file.
        content: as it lies there.
        identifier: by which a receiver knows that it has it already: Message Control ID (MSH-10) of HL7 v2, UID of the
            report of FHIR.
        study_uid: that it is about.
    """

    path: Path
    content: bytes
    identifier: str
    study_uid: str


def read_message(path: Path) -> OutgoingMessage:
    """Read a message that `dicom_bridge.messages` wrote.

    Raises:
        ValueError: it is none.
        OSError: it can't be read.
    """
    content = path.read_bytes()
    try:
        facts = _of_hl7(content) if path.suffix == HL7_SUFFIX else _of_fhir(content)
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{path}: no message of ours ({type(error).__name__})") from None
    return OutgoingMessage(path, content, *facts)


def _of_hl7(content: bytes) -> tuple[str, str]:
    segments = [line.split("|") for line in content.decode().split("\r") if line]
    header = segments[0]
    if header[0] != "MSH":
        raise ValueError
    studies = [fields[5] for fields in segments if fields[0] == "OBX" and fields[3].startswith(_STUDY)]
    return header[9], studies[0].split("^")[1]


def _of_fhir(content: bytes) -> tuple[str, str]:
    bundle = json.loads(content)
    report = bundle["entry"][0]["resource"]
    return (
        bundle["identifier"]["value"].removeprefix(_OID),
        report["imagingStudy"][0]["identifier"]["value"].removeprefix(_OID),
    )
