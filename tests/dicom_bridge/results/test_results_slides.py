"""SEG and SR of a slide: in tiles, in the slide's frame of reference, on exactly the pixels that were found."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import highdicom
import numpy as np
import pytest
from pydicom import Dataset, dcmread

from dicom_bridge.results.filing import FiledResults, file_results
from dicom_bridge.results.identifiers import ResultIdentifiers
from dicom_bridge.results.kinds import ResultKind
from dicom_bridge.series.dicom_reader import read_dicom
from rcmed.findings import Finding, Findings, FindingStatus, ModelIdentity
from rcmed.image import Image
from rcmed.measurements import find_boxes, measure
from rcmed.vocabulary import target_named
from tests.dicom_bridge.support import slides

PICTURE = np.random.default_rng(5).integers(0, 255, (40, 56, 3), dtype=np.uint8)


def first_mask() -> np.ndarray:
    mask = np.zeros((1, 40, 56), bool)
    mask[0, 3:27, 9:31] = True
    return mask


def second_mask() -> np.ndarray:
    mask = np.zeros((1, 40, 56), bool)
    mask[0, 20:40, 25:56] = np.random.default_rng(2).random((20, 31)) > 0.5
    return mask


def found_in(image: Image) -> Findings:
    target = target_named("nuclei")
    findings = [
        Finding("nuclei", target, FindingStatus.FOUND, 0.9, mask, find_boxes(mask), measure(mask, image))
        for mask in (first_mask(), second_mask())
    ]
    absent = Finding("nuclei", target, FindingStatus.ABSENT, 0.02)
    return Findings((*findings, absent), ModelIdentity("m", "1", "0" * 64), image.grid, image.modality, "q", "a")


def answered(objects: list[Dataset], folder: Path, kinds: tuple[ResultKind, ...] = ()) -> FiledResults:
    slides.save(objects, folder / "source")
    (image,) = read_dicom(folder / "source")
    told = {"kinds": kinds} if kinds else {}
    return file_results(image, found_in(image), ResultIdentifiers.derive("slide"), folder / "results", **told)


def whole() -> Dataset:
    return slides.slide(slides.cut(PICTURE, (10, 14)), (40, 56))


SOURCES: dict[str, Callable[[], list[Dataset]]] = {
    "whole": lambda: [whole()],
    "uneven tiles": lambda: [slides.slide(slides.cut(PICTURE, (16, 24)), (40, 56))],
    "one tile": lambda: [slides.slide(PICTURE[None], (40, 56))],
    "parts": lambda: slides.parts_of(whole(), (6, 6, 4)),
    "optical paths": lambda: [
        slides.slide(np.concatenate([slides.cut(PICTURE[..., path], (10, 14)) for path in range(3)]), (40, 56), "abc")
    ],
}


@pytest.mark.parametrize("source", SOURCES)
def test_seg_and_sr_of_a_slide(source: str, tmp_path: Path) -> None:
    objects = SOURCES[source]()
    filed = answered(objects, tmp_path)
    assert [path.name for path in filed.files] == ["segmentation.dcm", "report.dcm"] and filed.refusals == ()
    segmentation = highdicom.seg.segread(filed.files[0])
    matrix = segmentation.get_total_pixel_matrix(segment_numbers=[1, 2])
    assert (matrix[..., 0] == first_mask()[0]).all() and (matrix[..., 1] == second_mask()[0]).all()
    first = objects[0]
    assert segmentation.FrameOfReferenceUID == first.FrameOfReferenceUID
    assert segmentation.ImageOrientationSlide == first.ImageOrientationSlide
    origin = segmentation.TotalPixelMatrixOriginSequence[0]
    assert (origin.XOffsetInSlideCoordinateSystem, origin.YOffsetInSlideCoordinateSystem) == (20, 40)
    named = {str(item.ReferencedSOPInstanceUID) for item in segmentation.SourceImageSequence}
    assert named == {str(part.SOPInstanceUID) for part in objects}
    report = dcmread(filed.files[1])
    evidence = {
        str(item.ReferencedSOPInstanceUID)
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    assert evidence == named | {str(segmentation.SOPInstanceUID)}
    dciodvfy = shutil.which("dciodvfy")
    for path in filed.files if dciodvfy else ():
        done = subprocess.run([str(dciodvfy), "-new", str(path)], capture_output=True, text=True, timeout=120)
        assert [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")] == []


@pytest.mark.parametrize(
    ("keyword", "tag"),
    [
        ("FrameOfReferenceUID", "(0020,0052)"),
        ("ImageOrientationSlide", "(0048,0102)"),
        ("TotalPixelMatrixOriginSequence", "(0048,0008)"),
        ("SharedFunctionalGroupsSequence", "(0028,9110)"),
    ],
)
def test_of_a_slide_without_a_place_the_report_stands_alone_with_a_line(keyword: str, tag: str, tmp_path: Path) -> None:
    made = whole()
    delattr(made, keyword)
    filed = answered([made], tmp_path)
    assert [path.name for path in filed.files] == ["report.dcm"]
    (line,) = filed.refusals
    assert "no SEG" in line and tag in line and "0.dcm" in line


def test_other_results_of_a_slide_are_made_or_refused_with_a_line(tmp_path: Path) -> None:
    kinds = (ResultKind.SECONDARY_CAPTURE, ResultKind.KEY_OBJECTS, ResultKind.RTSTRUCT)
    filed = answered([whole()], tmp_path, kinds)
    assert "key-objects.dcm" in [path.name for path in filed.files]
    assert [line.split(":")[0] for line in filed.refusals] == ["no RTSTRUCT is written"]
