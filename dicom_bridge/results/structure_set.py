"""Findings as an RT Structure Set (PS3.3 A.19): for planning systems, which read contours rather than SEG."""

from __future__ import annotations

from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage
from pydicom.valuerep import DA, TM

from dicom_bridge.results.codes import concept, long_string, model_name, tracking_id
from dicom_bridge.results.contours import outlines
from dicom_bridge.results.identifiers import ResultIdentifiers
from dicom_bridge.results.provenance import ResultObject, making_in_words, short_text, tell_making
from dicom_bridge.results.segmentations.segments import segmented_findings
from dicom_bridge.results.sources.source import Plane, Source, read_source
from rcmed.errors import GridMismatchError, InputError
from rcmed.findings import Finding, Findings
from rcmed.image import Image

KIND = "contours"
_SERIES_OFFSET = 3000
# Longest value that an explicit transfer syntax can hold for DS (PS3.5 7.1.2: a length of 16 bits, even).
_LONGEST_VALUE = 65534
# The class of a study, retired and still what goes with its UID.
_DETACHED_STUDY_MANAGEMENT = "1.2.840.10008.3.1.2.3.1"


def build_structure_set(findings: Findings, image: Image, identifiers: ResultIdentifiers) -> Dataset | None:
    """Build an RT Structure Set with one region of interest for each finding that has a region.

    Each region is CLOSED_PLANAR contours in the planes of the source's slices, in patient coordinates (LPS mm), holes
    by keyhole (`contours.outlines`); each contour refers to its slice's instance and frame. Numbers, names and order
    are those of the SEG's segments. The interpreted type stays empty: what a region means for treatment, a person says.

    Args:
        findings: masks bool (slice, row, column) on the image's own grid.
        image: with source instances; their files are read again (headers only).
        identifiers: of the job; the same job gives the same UIDs.
    Returns:
        the structure set; None where nothing was found.
    Raises:
        InputError: the source can't hold a result, or has no place in the patient.
        GridMismatchError: findings, image and source do not lie on one grid.
    """
    if not findings.grid.matches(image.grid):
        raise GridMismatchError(f"the findings' grid {findings.grid.shape} is not the image's {image.grid.shape}")
    numbers = segmented_findings(findings)
    if not numbers:
        return None
    source = read_source(image)
    if source.planes is None:
        raise InputError(
            f"{image.sources[0].path}: no FrameOfReferenceUID (0020,0052) or no ImagePositionPatient (0020,0032): "
            "contours can't be placed in the patient"
        )
    created = identifiers.created or datetime.now()
    structures = ResultObject(
        findings,
        source.headers[0],
        identifiers,
        kind=KIND,
        sop_class_uid=RTStructureSetStorage,
        modality="RTSTRUCT",
        series_number=identifiers.series_number + _SERIES_OFFSET,
        series_description=identifiers.series_description("RCMed contours"),
    )
    structures.OperatorsName = ""
    structures.FrameOfReferenceUID = source.frame_of_reference_uid
    structures.PositionReferenceIndicator = source.headers[0].get("PositionReferenceIndicator") or ""
    structures.StructureSetLabel = "RCMED RESEARCH"
    structures.StructureSetName = long_string(model_name(findings.model))
    structures.StructureSetDescription = making_in_words(findings)
    structures.StructureSetDate, structures.StructureSetTime = DA(created.date()), TM(created.time())
    structures.ApprovalStatus = "UNAPPROVED"
    structures.ReferencedFrameOfReferenceSequence = [_frame_of_reference(source)]
    structures.StructureSetROISequence = []
    structures.ROIContourSequence = []
    structures.RTROIObservationsSequence = []
    for place, number in enumerate(numbers, start=1):
        finding = findings.findings[number]
        structures.StructureSetROISequence.append(_region(findings, number, place, source))
        structures.ROIContourSequence.append(_contours(finding, place, source))
        structures.RTROIObservationsSequence.append(_observation(finding, place))
    if _longest_value(structures) > _LONGEST_VALUE:
        structures.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    tell_making(structures, findings, identifiers)
    return structures


def _frame_of_reference(source: Source) -> Dataset:
    """The study, series and images that contours may lie in (PS3.3 C.8.8.5)."""
    by_series: dict[str, list[Dataset]] = {}
    for header in source.instances:
        by_series.setdefault(str(header.SeriesInstanceUID), []).append(
            _reference(str(header.SOPClassUID), str(header.SOPInstanceUID))
        )
    study = _reference(_DETACHED_STUDY_MANAGEMENT, str(source.headers[0].StudyInstanceUID))
    study.RTReferencedSeriesSequence = []
    for series_uid, images in by_series.items():
        series = Dataset()
        series.SeriesInstanceUID = series_uid
        series.ContourImageSequence = images
        study.RTReferencedSeriesSequence.append(series)
    item = Dataset()
    item.FrameOfReferenceUID = source.frame_of_reference_uid
    item.RTReferencedStudySequence = [study]
    return item


def _region(findings: Findings, number: int, place: int, source: Source) -> Dataset:
    finding = findings.findings[number]
    item = Dataset()
    item.ROINumber = place
    item.ReferencedFrameOfReferenceUID = source.frame_of_reference_uid
    item.ROIName = long_string(tracking_id(findings, number))
    presence = "" if finding.presence is None else f", presence {finding.presence:.2f}"
    item.ROIDescription = short_text(f"prompt: {finding.prompt}. {finding.status}{presence}")
    item.ROIGenerationAlgorithm = "AUTOMATIC"
    item.ROIGenerationDescription = long_string(f"{model_name(findings.model)} {findings.model.version}")
    return item


def _observation(finding: Finding, place: int) -> Dataset:
    item = Dataset()
    item.ObservationNumber = place
    item.ReferencedROINumber = place
    item.RTROIInterpretedType = ""
    item.ROIInterpreter = ""
    if finding.target is not None:
        item.RTROIIdentificationCodeSequence = [concept(finding.target.type)]
    return item


def _contours(finding: Finding, place: int, source: Source) -> Dataset:
    assert finding.region is not None and finding.target is not None and source.planes is not None
    item = Dataset()
    item.ReferencedROINumber = place
    item.ROIDisplayColor = [int(value) for value in finding.target.colour]
    item.ContourSequence = []
    for number in np.flatnonzero(finding.region.areas):
        reference = source.references[number]
        for points in outlines(finding.region[number]):
            contour = Dataset()
            contour.ContourNumber = len(item.ContourSequence) + 1
            image = _reference(reference.sop_class_uid, reference.sop_instance_uid)
            if reference.frame_number is not None:
                image.ReferencedFrameNumber = reference.frame_number
            contour.ContourImageSequence = [image]
            contour.ContourGeometricType = "CLOSED_PLANAR"
            contour.NumberOfContourPoints = len(points)
            contour.ContourData = _decimals(in_patient(points, source.planes[number]))
            item.ContourSequence.append(contour)
    return item


def in_patient(points: NDArray[np.float64], plane: Plane) -> NDArray[np.float64]:
    """(point, 2) as (row, column) from the first pixel's centre to LPS mm (point, 3), PS3.3 equation C.7.6.2.1-1."""
    along_row, along_column = np.array(plane.orientation[:3]), np.array(plane.orientation[3:])
    row, column = points[:, :1], points[:, 1:]
    return np.asarray(
        np.array(plane.position) + column * along_row * plane.spacing[1] + row * along_column * plane.spacing[0]
    )


def _decimals(points: NDArray[np.float64]) -> list[str]:
    """Decimal strings to a thousandth of a millimetre (PS3.5 6.2: at most 16 characters)."""
    return [f"{value:.3f}".rstrip("0").rstrip(".") for value in (points + 0.0).ravel()]


def _longest_value(structures: Dataset) -> int:
    return max(
        len("\\".join(str(value) for value in contour.ContourData))
        for item in structures.ROIContourSequence
        for contour in item.ContourSequence
    )


def _reference(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class_uid
    item.ReferencedSOPInstanceUID = sop_instance_uid
    return item
