"""Findings as Secondary Captures (PS3.3 A.8): for each the slice where it is largest, with its region burnt in."""

from __future__ import annotations

from datetime import datetime

import numpy as np
from highdicom.sc import SCImage
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian
from pydicom.valuerep import DA, TM

from dicom_bridge.results.codes import finding_name, model_name, tracking_id
from dicom_bridge.results.identifiers import ResultIdentifiers
from dicom_bridge.results.pictures.picture import captioned_overlay
from dicom_bridge.results.provenance import RESEARCH, made_by, making_in_words, short_text, tell_making
from dicom_bridge.results.segmentations.segments import segmented_findings
from dicom_bridge.results.sources.source import Source, as_secondary_capture, read_source
from rcmed.evaluation.overlays import best_slice
from rcmed.findings import Findings
from rcmed.image import Image

KIND = "capture"
_SERIES_OFFSET = 1000
_LETTERS = (("L", "R"), ("P", "A"), ("H", "F"))


def build_captures(findings: Findings, image: Image, identifiers: ResultIdentifiers) -> list[Dataset]:
    """Build a colour picture for each finding that has a region, all in one series.

    Each refers to the instance and frame that it shows. It has no spacing: nothing is to be measured in it.

    Args:
        findings: masks bool (slice, row, column) on the image's own grid.
        image: with source instances; their files are read again (headers only).
        identifiers: of the job; the same job gives the same UIDs.
    Raises:
        InputError: the source can't hold a result.
    """
    numbers = segmented_findings(findings)
    if not numbers:
        return []
    source = read_source(image)
    return [_capture(findings, image, source, identifiers, number, place) for place, number in enumerate(numbers, 1)]


def _capture(
    findings: Findings, image: Image, source: Source, identifiers: ResultIdentifiers, number: int, place: int
) -> Dataset:
    finding = findings.findings[number]
    shown = best_slice(image, finding)
    header = source.whole_header(shown)
    slices = image.grid.shape[0]
    where = f", slice {shown + 1} of {slices}" if slices > 1 else ""
    caption = f"{tracking_id(findings, number)}, {finding.status}{where}, {model_name(findings.model)}"
    capture = SCImage.from_ref_dataset(
        as_secondary_capture(header),
        captioned_overlay(image, finding, shown, caption),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "P"),
        series_instance_uid=identifiers.series_uid_of(KIND),
        series_number=identifiers.series_number + _SERIES_OFFSET,
        series_description="RCMed pictures",
        sop_instance_uid=identifiers.uid_of(KIND, place),
        instance_number=place,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        specific_character_set="ISO_IR 192",
        **made_by(findings, identifiers),
    )
    capture.PatientOrientation = picture_orientation(source, header, shown)  # type: ignore[assignment]
    capture.Laterality = header.get("Laterality") or ""
    capture.copy_patient_and_study_information(as_secondary_capture(header))
    created = identifiers.created or datetime.now()
    capture.DateOfSecondaryCapture, capture.TimeOfSecondaryCapture = DA(created.date()), TM(created.time())
    capture.SecondaryCaptureDeviceManufacturer = capture.Manufacturer
    capture.SecondaryCaptureDeviceManufacturerModelName = capture.ManufacturerModelName
    capture.SecondaryCaptureDeviceSoftwareVersions = capture.SoftwareVersions
    if header.get("BurnedInAnnotation") in ("YES", "NO"):
        # It tells of what identifies the patient (PS3.3 C.7.6.1): the words burnt in here do not, the source's may.
        capture.BurnedInAnnotation = header.BurnedInAnnotation
    capture.LossyImageCompression = header.LossyImageCompression
    for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
        if keyword in header:
            setattr(capture, keyword, header[keyword].value)
    capture.ImageComments = short_text(f"{RESEARCH}. {finding.description or finding_name(finding)}")
    capture.DerivationDescription = making_in_words(findings)
    capture.SourceImageSequence = [_source_image(source, shown)]
    tell_making(capture, findings, identifiers)
    return capture


def _source_image(source: Source, shown: int) -> Dataset:
    reference = source.references[shown]
    item = Dataset()
    item.ReferencedSOPClassUID = reference.sop_class_uid
    item.ReferencedSOPInstanceUID = reference.sop_instance_uid
    if reference.frame_number is not None:
        item.ReferencedFrameNumber = reference.frame_number
    purpose = Dataset()
    code = codes.DCM.SourceImageForImageProcessingOperation
    purpose.CodeValue, purpose.CodingSchemeDesignator, purpose.CodeMeaning = code.value, "DCM", code.meaning
    item.PurposeOfReferenceCodeSequence = [purpose]
    return item


def picture_orientation(source: Source, header: Dataset, shown: int) -> list[str] | None:
    """Towards which side of the patient rows and columns run (PS3.3 C.7.6.1.1.1); empty where it is not known."""
    if source.planes is None:
        return header.get("PatientOrientation") or None
    letters = []
    cosines = source.planes[shown].orientation
    for direction in (cosines[:3], cosines[3:]):
        axis = int(np.argmax(np.abs(direction)))
        letters.append(_LETTERS[axis][0 if direction[axis] > 0 else 1])
    return letters
