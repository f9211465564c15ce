"""Findings as an Encapsulated PDF (PS3.3 A.45.1): a report to read, for viewers that show neither SEG nor SR."""

from __future__ import annotations

from datetime import datetime

from pydicom.dataset import Dataset
from pydicom.uid import EncapsulatedPDFStorage

from dicom_bridge.results.codes import IMAGING_REPORT, concept
from dicom_bridge.results.identifiers import ResultIdentifiers
from dicom_bridge.results.provenance import RESEARCH, ResultObject, tell_making
from dicom_bridge.results.references import ImageReference
from dicom_bridge.results.sources.source import read_source
from rcmed.findings import Findings
from rcmed.image import Image

KIND = "document"
_SERIES_OFFSET = 4000
_MIME_TYPE = "application/pdf"


def build_document(findings: Findings, image: Image, identifiers: ResultIdentifiers) -> Dataset:
    """Build the report to read of all that was asked: what was found, with pictures, and what was not.

    It names the patient and the study in its pages, so Burned In Annotation is YES; it is UNVERIFIED.

    Args:
        findings: masks bool (slice, row, column) on the image's own grid.
        image: with source instances; their files are read again (headers only).
        identifiers: of the job; the same job gives the same UIDs and, dated, the same pages to the byte.
    Raises:
        InputError: the source can't hold a result.
        ImportError: the library that draws pages is not installed.
    """
    from dicom_bridge.results.documents.pages import report_pages  # with ReportLab, which nothing else needs

    source = read_source(image)
    created = identifiers.created or datetime.now()
    pages = report_pages(findings, image, source, created)
    document = ResultObject(
        findings,
        source.headers[0],
        identifiers,
        kind=KIND,
        sop_class_uid=EncapsulatedPDFStorage,
        modality="DOC",
        series_number=identifiers.series_number + _SERIES_OFFSET,
        series_description=identifiers.series_description("RCMed report to read"),
    )
    document.ConversionType = "SYN"
    document.AcquisitionDateTime = source.headers[0].get("AcquisitionDateTime") or ""
    document.BurnedInAnnotation = "YES"
    document.SourceInstanceSequence = [reference.item() for reference in ImageReference.of(source.instances)]
    document.DocumentTitle = f"RCMed report, {RESEARCH}"
    document.ConceptNameCodeSequence = [concept(IMAGING_REPORT)]
    document.VerificationFlag = "UNVERIFIED"
    document.MIMETypeOfEncapsulatedDocument = _MIME_TYPE
    document.EncapsulatedDocumentLength = len(pages)
    document.EncapsulatedDocument = pages + b"\0" * (len(pages) % 2)
    tell_making(document, findings, identifiers)
    return document


def pages_of(document: Dataset) -> bytes:
    """The PDF inside an Encapsulated PDF, without the byte that makes its length even."""
    content = bytes(document.EncapsulatedDocument)
    length = int(document.get("EncapsulatedDocumentLength") or len(content))
    return content[:length]
