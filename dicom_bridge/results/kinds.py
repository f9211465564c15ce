"""Which DICOM objects and messages answer a series, and the names of their files."""

from __future__ import annotations

from enum import StrEnum


class ResultKind(StrEnum):
    """A DICOM object that answers a series; `docs/results.md` tells what each is for."""

    SEG = "seg"
    SR = "sr"
    SECONDARY_CAPTURE = "secondary_capture"
    KEY_OBJECTS = "key_objects"
    RTSTRUCT = "rtstruct"
    PDF = "pdf"


class MessageKind(StrEnum):
    """A message that tells an information system of the findings; `docs/reports.md` tells what each holds."""

    HL7 = "hl7"
    FHIR = "fhir"


DEFAULT_RESULTS = (ResultKind.SEG, ResultKind.SR)

SEGMENTATION_FILE = "segmentation.dcm"
REPORT_FILE = "report.dcm"
KEY_OBJECTS_FILE = "key-objects.dcm"
STRUCTURE_SET_FILE = "contours.dcm"
DOCUMENT_FILE = "document.dcm"
CAPTURE_FILE = "capture-{}.dcm"
FILE_PATTERNS = (
    *(SEGMENTATION_FILE, REPORT_FILE, KEY_OBJECTS_FILE, STRUCTURE_SET_FILE, DOCUMENT_FILE),
    CAPTURE_FILE.format("[0-9]*"),
)
"""Of the names of all files of results."""

MESSAGE_FILES = {MessageKind.HL7: "report.hl7", MessageKind.FHIR: "report.fhir.json"}
DICOM_SUFFIX, HL7_SUFFIX, FHIR_SUFFIX = ".dcm", ".hl7", ".json"
SUFFIXES: dict[ResultKind | MessageKind, str] = {
    **dict.fromkeys(ResultKind, DICOM_SUFFIX),
    MessageKind.HL7: HL7_SUFFIX,
    MessageKind.FHIR: FHIR_SUFFIX,
}
"""Of the files of each kind."""
