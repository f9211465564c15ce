from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from rich.console import Console

from dicom_bridge.demo import instances
from dicom_bridge.demo.returned import find_problems, is_report
from dicom_bridge.demo.table import print_table, rows_of
from dicom_bridge.results.identifiers import ResultIdentifiers
from dicom_bridge.results.segmentations.reading import read_segments
from dicom_bridge.results.segmentations.segmentation import build_segmentation
from rcmed.errors import GridMismatchError
from rcmed.findings import Finding, Findings, FindingStatus, ModelIdentity
from rcmed.findings.json_file import findings_to_json
from rcmed.image import Grid, Image, SourceInstance
from rcmed.measurements import measure
from rcmed.modality import Modality
from rcmed.vocabulary import target_named

SLICES = 5


@pytest.fixture
def sent() -> list[Dataset]:
    return instances.brain_series()[80 : 80 + SLICES]


@pytest.fixture
def image(sent: list[Dataset], tmp_path: Path) -> Image:
    sources = []
    for number, instance in enumerate(sent):
        path = tmp_path / f"{number}.dcm"
        instance.save_as(path, enforce_file_format=True)
        uids = (instance.SOPClassUID, instance.SOPInstanceUID, instance.SeriesInstanceUID, instance.StudyInstanceUID)
        sources.append(SourceInstance(path, *(str(uid) for uid in uids)))
    affine = np.array([[0, 0, 1, -98], [0, 1, 0, -98], [1, 0, 0, 8], [0, 0, 0, 1]], dtype=np.float64)
    pixels = np.stack([instance.pixel_array for instance in sent])
    return Image(pixels, Grid(pixels.shape, affine), Modality.MR, sources=tuple(sources), is_volume=True)


@pytest.fixture
def findings(image: Image) -> Findings:
    mask = np.zeros(image.grid.shape, dtype=bool)
    mask[1:4, 100:120, 40:45] = True
    hippocampus, tumor = target_named("hippocampus"), target_named("brain tumor")
    return Findings(
        findings=(
            Finding("brain tumor", tumor, FindingStatus.ABSENT, 0.02),
            Finding("hippocampus", hippocampus, FindingStatus.FOUND, 0.97, mask, measurements=measure(mask, image)),
            Finding("flux capacitor", None, FindingStatus.UNRESOLVED, reason="no such target"),
        ),
        model=ModelIdentity("stub", "1", "0" * 64),
        grid=image.grid,
        modality=image.modality,
    )


@pytest.fixture
def segmentation(findings: Findings, image: Image) -> Dataset:
    built = build_segmentation(findings, image, ResultIdentifiers.derive("job"))
    assert built is not None
    return built


def report_on(segmentation: Dataset, **changes: str) -> Dataset:
    """As little of an SR as the checks look at: a tracking UID for each segment, a reference to the SEG."""
    report = Dataset()
    report.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.34"
    report.SOPInstanceUID = "1.2.3"
    report.Modality = "SR"
    report.ContentQualification = "RESEARCH"
    for keyword in ("StudyInstanceUID", "PatientID"):
        setattr(report, keyword, segmentation[keyword].value)
    group = Dataset()
    group.ContentSequence = []
    for segment in segmentation.SegmentSequence:
        name, item = Dataset(), Dataset()
        name.CodeValue, name.CodingSchemeDesignator = "112040", "DCM"
        item.ConceptNameCodeSequence, item.UID = [name], segment.TrackingUID
        group.ContentSequence.append(item)
    reference = Dataset()
    reference.ReferencedSOPInstanceUID = segmentation.SOPInstanceUID
    group.ReferencedSOPSequence = [reference]
    report.ContentSequence = [group]
    for keyword, value in changes.items():
        setattr(report, keyword, value)
    return report


def test_the_mask_comes_back_voxel_by_voxel(segmentation: Dataset, image: Image, findings: Findings) -> None:
    (segment,) = read_segments(segmentation, image)
    assert segment.label == "hippocampus"
    assert (segment.mask == findings.findings[1].mask).all()


def test_a_frame_of_another_series_is_refused(segmentation: Dataset, image: Image) -> None:
    source = segmentation.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence[0]
    source.ReferencedSOPInstanceUID = "1.2.3.4"
    with pytest.raises(GridMismatchError, match="no slice of the image"):
        read_segments(segmentation, image)


def test_sound_results_have_no_problems(sent: list[Dataset], segmentation: Dataset) -> None:
    assert find_problems(sent, [segmentation, report_on(segmentation)]) == []
    assert is_report(report_on(segmentation))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"StudyInstanceUID": "1.2.9"}, "StudyInstanceUID is not that of the study"),
        ({"ContentQualification": "PRODUCT"}, "is not RESEARCH"),
    ],
)
@pytest.mark.slow
def test_what_does_not_hold_is_said(
    sent: list[Dataset], segmentation: Dataset, change: dict[str, str], problem: str
) -> None:
    (line,) = find_problems(sent, [segmentation, report_on(segmentation, **change)])
    assert problem in line


def test_missing_results_are_said(sent: list[Dataset], segmentation: Dataset) -> None:
    without_report = find_problems(sent, [segmentation])
    assert "no SR came back" in without_report
    assert "1 segments of the SEG are not in the SR" in without_report
    strangers = find_problems(sent[:1], [segmentation, report_on(segmentation)])
    assert any("instances that were not sent" in line for line in strangers)


def test_the_table_tells_each_answer(findings: Findings, image: Image) -> None:
    rows = rows_of("brain", findings_to_json(image, findings), 1.5)
    console = Console(width=120, file=io.StringIO(), record=True)
    print_table(rows, console)
    lines = console.export_text().splitlines()
    (tumor,) = [line for line in lines if "brain tumor" in line]
    (hippocampus,) = [line for line in lines if "hippocampus" in line]
    (unknown,) = [line for line in lines if "flux capacitor" in line]
    assert "absent" in tumor and "0.02" in tumor and "1.5" in tumor
    assert "found" in hippocampus and "0.97" in hippocampus and "300 mm³" in hippocampus
    assert "unresolved" in unknown
