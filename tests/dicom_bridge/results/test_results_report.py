"""The report says what was found, absent, uncertain and not understood, in the SEG's own identifiers."""

from __future__ import annotations

import io
from datetime import datetime

import numpy as np
import pytest
from highdicom.sr import srread
from pydicom.dataset import Dataset

from dicom_bridge.results.identifiers import ResultIdentifiers
from dicom_bridge.results.reports.report import build_report
from dicom_bridge.results.result_files import write_result
from dicom_bridge.results.segmentations.reading import read_segments
from dicom_bridge.results.segmentations.segmentation import build_segmentation
from rcmed.codes import Code
from rcmed.errors import GridMismatchError, InputError
from rcmed.findings import Finding, FindingStatus, Measurement
from rcmed.vocabulary import target_named

IDENTIFIERS = ResultIdentifiers.derive("job", created=datetime(2024, 5, 6, 7, 8, 9))
MEAN = Measurement(
    "mean",
    41.25,
    "[hnsf'U]",
    Code("112031", "DCM", "Attenuation Coefficient"),
    Code("373098007", "SCT", "Mean"),
)


def walk(item: Dataset):
    yield item
    for child in item.get("ContentSequence", []):
        yield from walk(child)


def groups_of(report: Dataset) -> list[Dataset]:
    return [item for item in walk(report) if item.get("ConceptNameCodeSequence") and name_of(item) == "125007"]


def name_of(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeValue)


def child(group: Dataset, code: str) -> Dataset:
    (found,) = [item for item in group.ContentSequence if name_of(item) == code]
    return found


@pytest.fixture
def result(sources, tmp_path):
    image = sources.volume(tmp_path)
    mask = np.zeros(image.grid.shape, dtype=bool)
    mask[1:3, 2:5, 1:4] = True
    kidney = sources.target("left kidney", "64033007", 1, laterality=Code("7771000", "SCT", "Left"))
    findings = sources.findings(
        image,
        sources.absent(),
        sources.found(mask, kidney, measurements=(MEAN,), prompt="the kidney on the left"),
        sources.unresolved(),
        sources.found(mask, status=FindingStatus.UNCERTAIN, presence=0.5),
    )
    segmentation = build_segmentation(findings, image, IDENTIFIERS)
    report = build_report(findings, image, segmentation, IDENTIFIERS)
    return image, findings, segmentation, report


def test_tracking_identifiers_agree_with_the_segmentation(result) -> None:
    _, _, segmentation, report = result
    told = {child(g, "112040").UID: child(g, "112039").TextValue for g in groups_of(report)}
    assert len(told) == 4
    for segment in segmentation.SegmentSequence:
        assert told[segment.TrackingUID] == segment.TrackingID


def test_presence_is_said_for_each_status(result) -> None:
    _, _, _, report = result
    absent, found, unresolved, uncertain = groups_of(report)
    said = [child(g, "121052").ConceptCodeSequence[0].CodeMeaning for g in (absent, found, uncertain)]
    assert said == ["Absent", "Present", "Presence Undetermined"]
    assert [g.ContentTemplateSequence[0].TemplateIdentifier for g in (absent, found, unresolved, uncertain)] == [
        "1501",
        "1411",
        "1501",
        "1411",
    ]
    assert "121052" not in [name_of(item) for item in unresolved.ContentSequence]
    assert "flux capacitor" in child(unresolved, "121106").TextValue
    assert "no target of this name" in child(unresolved, "121106").TextValue


def test_a_found_group_refers_to_its_segment_and_images(result) -> None:
    image, _, segmentation, report = result
    _, found, _, uncertain = groups_of(report)
    for number, group in ((1, found), (2, uncertain)):
        reference = child(group, "121191").ReferencedSOPSequence[0]
        assert reference.ReferencedSOPInstanceUID == segmentation.SOPInstanceUID
        assert reference.ReferencedSegmentNumber == number
        images = [i.ReferencedSOPSequence[0] for i in group.ContentSequence if name_of(i) == "121233"]
        uids = [i.ReferencedSOPInstanceUID for i in images]
        assert sorted(uids) == sorted(image.sources[n].sop_instance_uid for n in (1, 2))
    site = child(found, "363698007")
    assert site.ConceptCodeSequence[0].CodeValue == "64033007"
    assert site.ContentSequence[0].ConceptCodeSequence[0].CodeValue == "7771000"


def test_measurements_prompt_and_model_are_recorded(result) -> None:
    _, findings, _, report = result
    _, found, _, _ = groups_of(report)
    number = child(found, "112031")
    assert number.MeasuredValueSequence[0].NumericValue == 41.25
    assert number.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue == "[hnsf'U]"
    assert child(number, "121401").ConceptCodeSequence[0].CodeValue == "373098007"
    assert child(found, "122157").MeasuredValueSequence[0].NumericValue == 0.97
    parameters = [item.TextValue for item in found.ContentSequence if name_of(item) == "111002"]
    assert "prompt: the kidney on the left" in parameters
    assert f"instruction: {findings.instruction}" in parameters
    assert child(found, "111003").TextValue == "1.0.0"
    observer = [item for item in report.ContentSequence if name_of(item) == "121005"]
    assert observer[0].ConceptCodeSequence[0].CodeValue == "121007"
    (serial,) = [item for item in report.ContentSequence if name_of(item) == "121016"]
    assert serial.TextValue == findings.model.weights_sha256


def test_header_evidence_and_library_hold_everything(result, tmp_path) -> None:
    image, _, segmentation, report = result
    assert (report.CompletionFlag, report.VerificationFlag, report.PreliminaryFlag) == (
        "COMPLETE",
        "UNVERIFIED",
        "PRELIMINARY",
    )
    assert report.ContentQualification == "RESEARCH"
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    names = [name_of(item) for item in report.ContentSequence]
    assert names.index("111028") < names.index("126010")
    evidence = {
        item.ReferencedSOPInstanceUID
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    everything = {reference.sop_instance_uid for reference in image.sources}
    assert evidence == everything | {segmentation.SOPInstanceUID}
    library = child(report, "111028")
    listed = {i.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for i in walk(library) if i.ValueType == "IMAGE"}
    assert listed == everything
    read = srread(write_result(report, tmp_path / "out"))
    assert len(read.content.get_volumetric_roi_measurement_groups()) == 2
    assert len(read.content.get_image_measurement_groups()) == 2


def test_same_job_gives_the_same_report(sources, tmp_path) -> None:
    image = sources.volume(tmp_path)
    findings = sources.findings(image, sources.found(np.ones(image.grid.shape, dtype=bool)))
    written = []
    for folder in ("first", "again"):
        segmentation = build_segmentation(findings, image, IDENTIFIERS)
        report = build_report(findings, image, segmentation, IDENTIFIERS)
        written.append([write_result(d, tmp_path / folder).read_bytes() for d in (segmentation, report)])
    assert written[0] == written[1]


def test_nothing_asked_and_nothing_found_is_said(sources, tmp_path) -> None:
    image = sources.volume(tmp_path)
    report = build_report(sources.findings(image), image, None, IDENTIFIERS)
    (group,) = groups_of(report)
    assert child(group, "121106").TextValue == "It is [SEG]."


def test_a_planar_source_gets_a_planar_group(sources, tmp_path) -> None:
    image = sources.planar(tmp_path)
    mask = np.ones(image.grid.shape, dtype=bool)
    findings = sources.findings(image, sources.found(mask))
    segmentation = build_segmentation(findings, image, IDENTIFIERS)
    (group,) = groups_of(build_report(findings, image, segmentation, IDENTIFIERS))
    assert group.ContentTemplateSequence[0].TemplateIdentifier == "1410"
    reference = child(group, "121214").ReferencedSOPSequence[0]
    assert reference.ReferencedFrameNumber == 1
    assert "ReferencedSegmentNumber" not in reference


def test_segments_are_read_back_onto_the_grid(result, tmp_path) -> None:
    image, findings, segmentation, _ = result
    segments = read_segments(write_result(segmentation, tmp_path / "out"), image)
    assert [segment.number for segment in segments] == [1, 2]
    for segment in segments:
        np.testing.assert_array_equal(segment.mask, findings.findings[1].mask)


def test_a_segmentation_of_another_series_is_refused(sources, result, tmp_path) -> None:
    _, _, segmentation, _ = result
    (tmp_path / "other").mkdir()
    other = sources.volume(tmp_path / "other")
    with pytest.raises(GridMismatchError, match="not in the image"):
        read_segments(write_result(segmentation, tmp_path / "out"), other)


def test_no_file_is_named_after_what_is_no_uid(result, tmp_path) -> None:
    _, _, segmentation, _ = result
    with pytest.warns(UserWarning, match="Invalid value"):
        segmentation.SOPInstanceUID = "../../etc/passwd"
    with pytest.raises(InputError, match="no UID"):
        write_result(segmentation, tmp_path)
    assert list(tmp_path.glob("**/*.partial")) == []


def test_what_is_encoded_once_is_written_as_pydicom_would_write_it(sources, tmp_path) -> None:
    image = sources.volume(tmp_path)
    mask = np.ones(image.grid.shape, dtype=bool)
    findings = sources.findings(image, sources.found(mask, prompt="größere Läsion, 腎臓"), sources.absent())
    report = build_report(findings, image, build_segmentation(findings, image, IDENTIFIERS), IDENTIFIERS)
    written = io.BytesIO()
    report.save_as(written, enforce_file_format=True)
    pending = [report]
    while pending:
        dataset = pending.pop()
        dataset.set_original_encoding(None, None)
        pending += [item for element in dataset if element.VR == "SQ" for item in element.value]
    again = io.BytesIO()
    report.save_as(again, enforce_file_format=True)
    assert written.getvalue() == again.getvalue()


def test_what_cannot_be_was_not_found_and_the_reason_stands_there(sources, tmp_path) -> None:
    image = sources.volume(tmp_path)
    mask = np.zeros(image.grid.shape, dtype=bool)
    mask[1:3, 2:5, 1:4] = True
    reason = "implausible: an image of head does not show liver (chest, abdomen)"
    findings = sources.findings(
        image,
        Finding("liver", target_named("liver"), FindingStatus.IMPLAUSIBLE, 0.95, reason=reason),
        sources.found(mask),
    )
    segmentation = build_segmentation(findings, image, IDENTIFIERS)
    assert len(segmentation.SegmentSequence) == 1
    implausible, found = groups_of(build_report(findings, image, segmentation, IDENTIFIERS))
    assert child(implausible, "121052").ConceptCodeSequence[0].CodeMeaning == "Absent"
    assert child(implausible, "121106").TextValue == f"liver: not found ({reason})"
    assert implausible.ContentTemplateSequence[0].TemplateIdentifier == "1501"
    assert child(found, "121052").ConceptCodeSequence[0].CodeMeaning == "Present"
