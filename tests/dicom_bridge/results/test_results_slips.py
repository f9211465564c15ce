"""A slip in an attribute that a result does not need costs neither the result nor its validity, and is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_bridge.results.filing import FiledResults, file_results
from dicom_bridge.results.identifiers import ResultIdentifiers
from dicom_bridge.results.kinds import ResultKind
from dicom_bridge.results.segmentations.reading import read_segments
from dicom_bridge.series.images import read_series
from slips import SLIPS, Slip, put_stray_item, spoil


def filed_of(folder: Path, sources: Any, kinds: Any = (ResultKind.SEG, ResultKind.SR)) -> FiledResults:
    """Results of a box in the only image of a folder."""
    (image,) = read_series(sorted(folder.iterdir())).images
    mask = np.zeros(image.grid.shape, dtype=bool)
    mask[1:, 2:5, 1:4] = True
    findings = sources.findings(image, sources.found(mask), sources.absent())
    return file_results(image, findings, ResultIdentifiers.derive("job"), folder.parent / "results", kinds)


@pytest.fixture
def series(sources: Any, tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    sources.volume(folder)
    return folder


def shown(value: Any) -> Any:
    """A value as a test can name it."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list) or type(value).__name__ == "Sequence":
        return [{element.keyword: str(element.value) for element in item} for item in value]
    return str(value)


@pytest.mark.parametrize("slip", SLIPS.values(), ids=SLIPS)
def test_a_slip_costs_the_attribute_alone(slip: Slip, series: Path, sources: Any) -> None:
    spoil(series, slip)
    filed = filed_of(series, sources)
    assert [path.name for path in filed.files] == ["segmentation.dcm", "report.dcm"] and filed.refusals == ()
    for path in filed.files:
        result = dcmread(path)
        assert shown(result.get(slip.keyword)) == shown(slip.becomes)
        assert result.PatientID == "T1"
    assert len(filed.losses) == slip.is_told
    for line in filed.losses:
        assert line.startswith(f"{series}/0.dcm: ") and "in the results" in line and len(line.splitlines()) == 1


def test_no_line_shows_a_value(series: Path, sources: Any) -> None:
    spoil(series, SLIPS["two names"])
    (line,) = filed_of(series, sources).losses
    assert line == f"{series}/0.dcm: PatientName (0010,0010) is not a valid value of PN; it is emptied in the results"


@pytest.mark.parametrize("kind", ResultKind)
@pytest.mark.slow
def test_every_kind_of_result_takes_every_slip(kind: ResultKind, series: Path, sources: Any) -> None:
    for slip in SLIPS.values():
        spoil(series, slip)
    filed = filed_of(series, sources, [kind])
    assert filed.files and filed.refusals == ()
    for path in filed.files:
        assert dcmread(path).PatientBirthDate == ""


def test_a_stray_item_is_passed_over(series: Path, sources: Any) -> None:
    put_stray_item(series)
    filed = filed_of(series, sources)
    assert len(filed.files) == 2 and filed.losses == ()


def test_a_lossy_source_keeps_a_ratio(series: Path, sources: Any) -> None:
    spoil(series, SLIPS["lossy with a ratio in words"])
    segmentation = dcmread(filed_of(series, sources).files[0])
    assert segmentation.LossyImageCompression == "01" and float(segmentation.LossyImageCompressionRatio) >= 1


def test_specimens_are_copied_whole_or_not_at_all(series: Path, sources: Any) -> None:
    def label(dataset: Dataset) -> None:
        specimen = Dataset()
        specimen.SpecimenIdentifier, specimen.SpecimenUID = "S1", "1.2.3"
        dataset.ContainerIdentifier, dataset.SpecimenDescriptionSequence = "C1", [specimen]

    spoil(series, Slip(label, "", ""))
    segmentation = dcmread(filed_of(series, sources).files[0])
    assert segmentation.ContainerIdentifier == "C1" and segmentation.ContainerTypeCodeSequence == []
    assert segmentation.SpecimenDescriptionSequence[0].SpecimenIdentifier == "S1"

    def lose(dataset: Dataset) -> None:
        del dataset.SpecimenDescriptionSequence[0].SpecimenUID

    spoil(series, Slip(lose, "", ""))
    segmentation = dcmread(filed_of(series, sources).files[0])
    assert "ContainerIdentifier" not in segmentation and "SpecimenDescriptionSequence" not in segmentation


def test_frames_of_a_class_that_has_none_are_told_by_their_place(sources: Any, tmp_path: Path) -> None:
    """Numbers of frames may not be referred to; the masks come back onto their slices all the same."""
    folder = tmp_path / "source"
    folder.mkdir()
    image = sources.frames_without_groups(folder, "US")
    mask = np.zeros(image.grid.shape, dtype=bool)
    mask[0, 1:3, 1:3], mask[2, 2:5, 2:4] = True, True
    findings = sources.findings(image, sources.found(mask))
    filed = file_results(image, findings, ResultIdentifiers.derive("job"), tmp_path / "results")
    for group in dcmread(filed.files[0]).PerFrameFunctionalGroupsSequence:
        assert "ReferencedFrameNumber" not in group.DerivationImageSequence[0].SourceImageSequence[0]
    (segment,) = read_segments(filed.files[0], image)
    assert np.array_equal(segment.mask, mask)
