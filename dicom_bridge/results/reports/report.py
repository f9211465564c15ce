"""Findings as a TID 1500 Imaging Measurement Report, a Comprehensive 3D SR (PS3.3 A.35.13, PS3.16 TID 1500)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    Comprehensive3DSR,
    ContentSequence,
    FindingSite,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    ReferencedSegment,
    ReferencedSegmentationFrame,
    RelationshipTypeValues,
    SourceImageForMeasurementGroup,
    SourceImageForSegmentation,
    TextContentItem,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from highdicom.sr import Measurement as MeasurementItem
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from dicom_bridge.manufacturer import MANUFACTURER
from dicom_bridge.results.codes import (
    PRESENCE,
    concept,
    finding_name,
    model_name,
    tracking_id,
    unit_concept,
    unlimited_text,
)
from dicom_bridge.results.documents.wording import NOTHING_RECOGNISED
from dicom_bridge.results.identifiers import ResultIdentifiers
from dicom_bridge.results.provenance import made_by, tell_making
from dicom_bridge.results.references import (
    ImageList,
    ImageReference,
    complete_evidence,
    first_evidence,
    spare_encoding,
)
from dicom_bridge.results.reports.device_observer import observer
from dicom_bridge.results.reports.image_library import image_library
from dicom_bridge.results.sources.source import Source, as_secondary_capture, read_source
from rcmed.codes import Code
from rcmed.findings import Finding, Findings, FindingStatus, Measurement
from rcmed.image import Image

_Group = (
    MeasurementsAndQualitativeEvaluations
    | PlanarROIMeasurementsAndQualitativeEvaluations
    | VolumetricROIMeasurementsAndQualitativeEvaluations
)

# LOINC, by the modality of the source (CID 100 and its kin); what is not here is a diagnostic imaging study.
_PROCEDURES = {
    "CT": Code("25045-6", "LN", "CT unspecified body region"),
    "MR": Code("25056-3", "LN", "MRI unspecified body region"),
    "PT": Code("44136-0", "LN", "PET unspecified body region"),
    "NM": Code("49118-3", "LN", "NM unspecified body region"),
    "CR": Code("43468-8", "LN", "XR unspecified body region"),
    "DX": Code("43468-8", "LN", "XR unspecified body region"),
    "US": Code("25061-3", "LN", "US unspecified body region"),
}
_ANY_PROCEDURE = Code("18748-4", "LN", "Diagnostic imaging study")


class _Report(Comprehensive3DSR):
    """A Comprehensive 3D SR of any source; highdicom itself knows no retired storage classes (PS3.4 B.6)."""

    def copy_patient_and_study_information(self, dataset: Dataset) -> None:
        """Copy what every image has of patient and study, as from a Secondary Capture."""
        super().copy_patient_and_study_information(as_secondary_capture(dataset))


def build_report(
    findings: Findings,
    image: Image,
    segmentation: Dataset | None,
    identifiers: ResultIdentifiers,
    predecessors: Sequence[Dataset] = (),
) -> Dataset:
    """Build the structured report of all findings: found, uncertain, absent, implausible and unresolved.

    What is implausible was not found, and a comment says why.

    Each finding is a measurement group: TID 1410 (one slice) or 1411 (several) where it has a segment, TID 1501 on
    the whole image where it has none. Found, absent and uncertain are said by 121052 DCM "Presence of property".
    Tracking identifiers and UIDs are those of the SEG's segments.

    Args:
        findings: in the order in which they were asked; none at all makes a report that says so.
        image: with source instances; their files are read again (headers only).
        segmentation: what `build_segmentation` made of the same findings; None where it made none.
        identifiers: of the job; the same job gives the same UIDs.
        predecessors: reports of the study's earlier generations that this one takes the place of.
    Returns:
        the SR: complete, preliminary, unverified (no human read it), for research.
    Raises:
        InputError: the source can't hold a result.
    """
    source = read_source(image)
    model = findings.model
    built = [_group(findings, number, source, segmentation, identifiers) for number in range(len(findings.findings))]
    if not built:
        built = [_nothing(findings, source, identifiers)]
    library, lists = image_library(source)
    modality = str(source.headers[0].Modality)
    report = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=observer(model)),
        procedure_reported=concept(_PROCEDURES.get(modality, _ANY_PROCEDURE)),
        imaging_measurements=[group for group, _ in built],
        title=codes.DCM.ImagingMeasurementReport,
    )
    root = report[0].ContentSequence
    # The library goes before the measurements (TID 1500, order significant).
    report[0].ContentSequence = ContentSequence([*root[:-1], library, root[-1]])
    lists += [images for _, images in built]
    document = _Report(
        evidence=[*first_evidence(source.instances, lists), *([segmentation] if segmentation is not None else [])],
        content=report[0],
        series_instance_uid=identifiers.report_series_uid,
        series_number=identifiers.series_number + 1,
        sop_instance_uid=identifiers.report_uid,
        instance_number=1,
        is_complete=True,
        is_final=False,
        is_verified=False,
        series_description="RCMed report",
        previous_versions=list(predecessors) or None,
        **made_by(findings, identifiers),
    )
    for images in lists:
        images.complete()
    complete_evidence(document, source.instances)
    spare_encoding(document)
    tell_making(document, findings, identifiers)
    return document


def _algorithm(findings: Findings, finding: Finding | None) -> AlgorithmIdentification:
    """TID 4019: who found it, and what it was told to look for."""
    parameters = [f"weights_sha256: {findings.model.weights_sha256}"]
    if finding is not None:
        parameters.append(f"prompt: {finding.prompt}")
    if findings.instruction:
        parameters.append(f"instruction: {findings.instruction}")
    return AlgorithmIdentification(
        name=model_name(findings.model),
        version=unlimited_text(findings.model.version),
        parameters=[unlimited_text(parameter) for parameter in parameters],
        family=codes.DCM.ArtificialIntelligence,
        manufacturer=MANUFACTURER,
    )


def _group(
    findings: Findings,
    number: int,
    source: Source,
    segmentation: Dataset | None,
    identifiers: ResultIdentifiers,
) -> tuple[_Group, ImageList]:
    """The measurement group of a finding with the first of its images, and the images that it is to have."""
    finding = findings.findings[number]
    target = finding.target
    tracking = TrackingIdentifier(uid=identifiers.tracking_uid(number), identifier=tracking_id(findings, number))
    algorithm_id = _algorithm(findings, finding)
    measurements = [_measurement(item) for item in finding.measurements if math.isfinite(item.value)]
    if finding.presence is not None and math.isfinite(finding.presence):
        measurements.append(MeasurementItem(codes.DCM.Probability, float(finding.presence), unit_concept("1")))
    evaluations = []
    if finding.status in PRESENCE:
        evaluations.append(QualitativeEvaluation(codes.DCM.PresenceOfProperty, PRESENCE[finding.status]))
    content: dict[str, Any] = {
        "tracking_identifier": tracking,
        "finding_type": concept(target.type) if target is not None else None,
        "finding_category": concept(target.category) if target is not None else None,
        "finding_sites": _sites(finding),
        "algorithm_id": algorithm_id,
        "measurements": measurements or None,
        "qualitative_evaluations": evaluations or None,
    }
    segment = _segment_number(segmentation, identifiers.tracking_uid(number))
    group: _Group
    first: SourceImageForMeasurementGroup | SourceImageForSegmentation
    if segmentation is None or segment is None:
        whole, others = _whole_images(source)
        first = whole
        group = MeasurementsAndQualitativeEvaluations(**content, source_images=[whole])
    else:
        frames, image, others = _segment_images(segmentation, segment)
        first = image
        if len(source.headers) == 1:
            reference = _segment_frames(segmentation, segment, frames, image)
            group = PlanarROIMeasurementsAndQualitativeEvaluations(**content, referenced_segment=reference)
        else:
            group = VolumetricROIMeasurementsAndQualitativeEvaluations(
                **content, referenced_segment=_segment(segmentation, segment, image)
            )
    _comment(group, _words(finding))
    return group, ImageList(group[0], first, others)


def _nothing(findings: Findings, source: Source, identifiers: ResultIdentifiers) -> tuple[_Group, ImageList]:
    """The group of a run that was asked for nothing and recognised nothing; as `_group`."""
    image, others = _whole_images(source)
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=identifiers.tracking_uid(0), identifier="no finding"),
        algorithm_id=_algorithm(findings, None),
        source_images=[image],
    )
    _comment(group, findings.answer or NOTHING_RECOGNISED)
    return group, ImageList(group[0], image, others)


def _words(finding: Finding) -> str:
    if finding.status is FindingStatus.UNRESOLVED:
        return f'The prompt "{finding.prompt}" was not answered: {finding.reason or "it names no known target"}'
    if finding.description:
        return finding.description
    said = {FindingStatus.FOUND: "found", FindingStatus.UNCERTAIN: "uncertain"}.get(finding.status, "not found")
    return f"{finding_name(finding)}: {said}" + (f" ({finding.reason})" if finding.reason else "")


def _comment(group: _Group, text: str) -> None:
    """A remark inside a measurement group, which is extensible (TID 1410, 1411, 1501)."""
    group[0].ContentSequence.append(
        TextContentItem(codes.DCM.Comment, unlimited_text(text), RelationshipTypeValues.CONTAINS)
    )


def _sites(finding: Finding) -> list[FindingSite] | None:
    """Where it is: the region of a lesion, or the organ itself where its side is known."""
    target = finding.target
    if target is None or (target.region is None and target.laterality is None):
        return None
    laterality = concept(target.laterality) if target.laterality is not None else None
    return [FindingSite(concept(target.region or target.type), laterality=laterality)]


def _measurement(measurement: Measurement) -> MeasurementItem:
    derivation: CodedConcept | None = None
    if measurement.derivation is not None:
        derivation = concept(measurement.derivation)
    return MeasurementItem(
        name=concept(measurement.code),
        value=float(measurement.value),
        unit=unit_concept(measurement.unit),
        derivation=derivation,
    )


def _segment_number(segmentation: Dataset | None, tracking_uid: str) -> int | None:
    if segmentation is not None:
        for segment in segmentation.SegmentSequence:
            if segment.get("TrackingUID") == tracking_uid:
                return int(segment.SegmentNumber)
    return None


def _whole_images(source: Source) -> tuple[SourceImageForMeasurementGroup, list[ImageReference]]:
    """The first instance, and the others."""
    first, *others = ImageReference.of(source.instances)
    return SourceImageForMeasurementGroup(first.sop_class_uid, first.sop_instance_uid), others


def _segment_images(
    segmentation: Dataset, segment: int
) -> tuple[list[int], SourceImageForSegmentation, list[ImageReference]]:
    """Frames of the SEG (from 1) that hold a segment, and the images they were made from: the first, and the others."""
    frames: list[int] = []
    classes: dict[str, str] = {}
    source_frames: dict[str, list[int]] = {}
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    for number, group in enumerate(segmentation.PerFrameFunctionalGroupsSequence, start=1):
        # A SEG of a single segment tells its number once for all frames.
        identification = group.get("SegmentIdentificationSequence") or shared.get("SegmentIdentificationSequence")
        if int(identification[0].ReferencedSegmentNumber) != segment:
            continue
        frames.append(number)
        item = group.DerivationImageSequence[0].SourceImageSequence[0]
        uid = str(item.ReferencedSOPInstanceUID)
        classes[uid] = str(item.ReferencedSOPClassUID)
        numbers = source_frames.setdefault(uid, [])
        if item.get("ReferencedFrameNumber") is not None:
            numbers.append(int(item.ReferencedFrameNumber))
    first, *others = (ImageReference(classes[uid], uid, tuple(numbers)) for uid, numbers in source_frames.items())
    image = SourceImageForSegmentation(first.sop_class_uid, first.sop_instance_uid, list(first.frames) or None)
    return frames, image, others


def _segment(segmentation: Dataset, segment: int, image: SourceImageForSegmentation) -> ReferencedSegment:
    return ReferencedSegment(
        sop_class_uid=str(segmentation.SOPClassUID),
        sop_instance_uid=str(segmentation.SOPInstanceUID),
        segment_number=segment,
        source_images=[image],
    )


def _segment_frames(
    segmentation: Dataset, segment: int, frames: list[int], image: SourceImageForSegmentation
) -> ReferencedSegmentationFrame:
    reference = ReferencedSegmentationFrame(
        sop_class_uid=str(segmentation.SOPClassUID),
        sop_instance_uid=str(segmentation.SOPInstanceUID),
        frame_number=frames,
        segment_number=segment,
        source_image=image,
    )
    # A reference names frames or segments, never both (PS3.3 Table 10-3); a frame belongs to one segment anyway.
    del reference[0].ReferencedSOPSequence[0].ReferencedSegmentNumber
    return reference
