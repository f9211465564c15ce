"""Secondary captures, key objects, and what every kind of result says of its making."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_bridge.results.dicom_writer import write_results
from dicom_bridge.results.filing import file_results
from dicom_bridge.results.identifiers import ResultIdentifiers, series_name
from dicom_bridge.results.kinds import ResultKind
from dicom_bridge.results.objects import build_objects
from dicom_bridge.series.images import read_series
from rcmed.errors import InputError
from rcmed.findings import Findings
from rcmed.image import Image
from rcmed.modality import Modality
from result_sources import MODEL

CREATED = datetime(2026, 3, 4, 5, 6, 7)
IDENTIFIERS = ResultIdentifiers.derive("job", CREATED)
EVERYTHING = tuple(ResultKind)


@pytest.fixture
def image(sources: Any, tmp_path: Path) -> Image:
    folder = tmp_path / "source"
    folder.mkdir()
    image: Image = sources.volume(folder, shape=(5, 24, 20), BurnedInAnnotation="NO")
    return image


def two_boxes(image: Image) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    first, second = np.zeros((2, *image.grid.shape), dtype=bool)
    first[1, 2:6, 2:6] = True
    first[2, 2:12, 2:12] = True
    second[2:4, 14:20, 10:16] = True
    return first, second


@pytest.fixture
def findings(image: Image, sources: Any) -> Findings:
    first, second = two_boxes(image)
    kidney = sources.target("left kidney", "64033007", 1)
    told: Findings = sources.findings(
        image, sources.found(first, prompt="liver, please"), sources.absent("spleen"), sources.found(second, kidney)
    )
    return told


def test_every_object_tells_model_weights_prompt_and_time(image: Image, findings: Findings) -> None:
    objects = build_objects(image, findings, IDENTIFIERS, EVERYTHING)
    assert sorted(dataset.Modality for dataset in objects.datasets.values()) == sorted(
        ["SEG", "SR", "OT", "OT", "KO", "RTSTRUCT", "DOC"]
    )
    assert objects.refusals == ()
    header = dcmread(image.sources[0].path, stop_before_pixels=True)
    for dataset in objects.datasets.values():
        assert dataset.ContentQualification == "RESEARCH"
        assert dataset.DeviceSerialNumber == MODEL.weights_sha256
        equipment = dataset.ContributingEquipmentSequence[-1]
        assert equipment.Manufacturer == "RCMed"
        assert equipment.ManufacturerModelName == "RCMed small"
        assert equipment.SoftwareVersions == MODEL.version
        assert str(equipment.ContributionDateTime) == "20260304050607"
        for told in ("RESEARCH USE ONLY", MODEL.weights_sha256, "liver, please; spleen; left kidney"):
            assert told in equipment.ContributionDescription
        assert {str(dataset.InstanceCreationDate), str(dataset.SeriesDate)} == {"20260304"}
        for keyword in (
            "StudyInstanceUID",
            "AccessionNumber",
            "PatientName",
            "PatientID",
            "PatientBirthDate",
            "StudyID",
        ):
            assert dataset[keyword].value == header[keyword].value, keyword
    series = {dataset.SeriesInstanceUID: dataset.SeriesNumber for dataset in objects.datasets.values()}
    assert len(series) == len(set(series.values())) == 6  # both pictures are of one series
    segments = objects.datasets["segmentation.dcm"].SegmentSequence
    told = segments[0].SegmentationAlgorithmIdentificationSequence[0].AlgorithmParameters
    assert "prompt=liver; please" in told


def test_the_same_job_gives_the_same_files(image: Image, findings: Findings, tmp_path: Path) -> None:
    first, second = (
        file_results(image, findings, IDENTIFIERS, tmp_path / name, EVERYTHING).files for name in ("first", "second")
    )
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert len({dcmread(path).SOPInstanceUID for path in first}) == len(first) == 7


def test_only_what_was_asked_for_is_written(image: Image, findings: Findings) -> None:
    assert list(build_objects(image, findings, IDENTIFIERS).datasets) == ["segmentation.dcm", "report.dcm"]
    assert list(build_objects(image, findings, IDENTIFIERS, [ResultKind.KEY_OBJECTS]).datasets) == ["key-objects.dcm"]


def test_where_nothing_was_found_only_the_reports_are_written(image: Image, sources: Any) -> None:
    nothing = sources.findings(image, sources.absent("spleen"))
    objects = build_objects(image, nothing, IDENTIFIERS, EVERYTHING)
    assert list(objects.datasets) == ["report.dcm", "document.dcm"]
    assert objects.refusals == ()


def test_a_capture_shows_the_largest_slice_with_the_region_in_its_colour(image: Image, findings: Findings) -> None:
    capture = build_objects(image, findings, IDENTIFIERS, [ResultKind.SECONDARY_CAPTURE]).datasets["capture-1.dcm"]
    (source,) = capture.SourceImageSequence
    assert source.ReferencedSOPInstanceUID == image.sources[2].sop_instance_uid
    assert capture.ImageType[:2] == ["DERIVED", "SECONDARY"]
    assert capture.BurnedInAnnotation == "NO"
    assert capture.ImageComments.startswith("RESEARCH USE ONLY")
    assert list(capture.PatientOrientation) == ["L", "P"]
    assert "PixelSpacing" not in capture
    pixels = capture.pixel_array
    # 24 x 20 pixels of 0.8 x 0.7 mm: the picture has the proportions of the patient, and bands of words around.
    rows, columns, _ = pixels.shape
    band = (rows - round(columns * (24 * 0.8) / (20 * 0.7))) / 2
    assert band == pytest.approx(34, abs=1)
    top = int(band)
    coloured = np.abs(pixels.astype(int) - pixels.astype(int).mean(axis=-1, keepdims=True)).max(axis=-1) > 20
    marked = np.argwhere(coloured[top : rows - top])
    unit = columns / 20
    first, last = marked.min(axis=0) / [unit * 0.8 / 0.7, unit], marked.max(axis=0) / [unit * 0.8 / 0.7, unit]
    assert first == pytest.approx([2, 2], abs=0.6)
    assert last == pytest.approx([12, 12], abs=0.6)
    assert pixels[:top].any()  # words
    assert pixels[rows - top :].any()


def test_a_picture_of_a_source_with_names_in_it_says_so(sources: Any, tmp_path: Path) -> None:
    image = sources.planar(tmp_path, modality="XC", colour=True, BurnedInAnnotation="YES", PatientOrientation="")
    findings = sources.findings(image, sources.found(np.ones(image.grid.shape, dtype=bool)))
    objects = build_objects(image, findings, IDENTIFIERS, [ResultKind.SECONDARY_CAPTURE])
    assert objects.datasets["capture-1.dcm"].BurnedInAnnotation == "YES"


def references(selection: Dataset) -> list[tuple[str, list[int]]]:
    found = []
    for item in selection.ContentSequence:
        if item.ValueType == "IMAGE":
            (referred,) = item.ReferencedSOPSequence
            numbers = referred.get("ReferencedFrameNumber") or []
            found.append((referred.ReferencedSOPInstanceUID, [int(n) for n in np.atleast_1d(numbers)]))
    return found


def test_key_objects_are_the_slices_in_which_something_was_found(image: Image, findings: Findings) -> None:
    selection = build_objects(image, findings, IDENTIFIERS, [ResultKind.KEY_OBJECTS]).datasets["key-objects.dcm"]
    assert selection.ConceptNameCodeSequence[0].CodeMeaning == "Of Interest"
    assert references(selection) == [(image.sources[number].sop_instance_uid, []) for number in (1, 2, 3)]
    (study,) = selection.CurrentRequestedProcedureEvidenceSequence
    assert len(study.ReferencedSeriesSequence[0].ReferencedSOPSequence) == 3
    (description,) = [
        item.TextValue for item in selection.ContentSequence if item.get("TextValue", "").startswith("RES")
    ]
    assert "liver: slices 2 to 3, of 5; prompt: liver, please" in description
    assert "spleen" not in description


def test_key_objects_of_a_multi_frame_source_are_its_frames(sources: Any, tmp_path: Path) -> None:
    image = sources.enhanced(tmp_path, frames=(3, 1, 4, 2))
    mask = np.zeros(image.grid.shape, dtype=bool)
    mask[:2, 1:3, 1:3] = True
    findings = sources.findings(image, sources.found(mask))
    selection = build_objects(image, findings, IDENTIFIERS, [ResultKind.KEY_OBJECTS]).datasets["key-objects.dcm"]
    assert references(selection) == [(image.sources[0].sop_instance_uid, [1, 3])]


def test_a_picture_that_comes_back_is_not_looked_at_again(image: Image, findings: Findings, tmp_path: Path) -> None:
    filed = file_results(image, findings, IDENTIFIERS, tmp_path / "out", [ResultKind.SECONDARY_CAPTURE])
    reading = read_series(filed.files, Modality.CT)
    assert reading.images == ()
    assert all("a picture that RCMed made" in str(refusal.reason) for refusal in reading.refusals)
    assert sum(len(refusal.paths) for refusal in reading.refusals) == 2


def test_the_command_s_writer_takes_kinds_by_name(image: Image, findings: Findings, tmp_path: Path) -> None:
    assert write_results(image, findings, tmp_path / "usual") == []
    assert sorted(path.name for path in (tmp_path / "usual").iterdir()) == ["report.dcm", "segmentation.dcm"]
    assert write_results(image, findings, tmp_path / "other", ["rtstruct"]) == []
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["contours.dcm"]
    with pytest.raises(InputError, match="'stl' is no result: use seg, sr, secondary_capture"):
        write_results(image, findings, tmp_path, ["stl"])


def test_series_of_results_are_told_apart_by_route_and_source(image: Image, findings: Findings) -> None:
    header = dcmread(image.sources[0].path, stop_before_pixels=True)
    source = f"{header.SeriesNumber} {header.get('SeriesDescription', '')}".strip()
    for route in ("abdomen CT", "second reader"):
        identifiers = ResultIdentifiers.derive(route, IDENTIFIERS.created, route=route)
        objects = build_objects(image, findings, identifiers, EVERYTHING)
        kinds = {"SEG": "segmentation", "SR": "report", "OT": "pictures", "KO": "key images", "RTSTRUCT": "contours"}
        kinds["DOC"] = "report to read"
        for dataset in objects.datasets.values():
            assert dataset.SeriesDescription == f"RCMed {kinds[dataset.Modality]}: {route}, {source}"


@pytest.mark.parametrize(
    ("route", "number", "description", "protocol", "expected"),
    [
        ("abdomen CT", 3, "Portal venous 5.0", "Abdomen", "RCMed report: abdomen CT, 3 Portal venous 5.0"),
        ("abdomen CT", None, None, "Abdomen", "RCMed report: abdomen CT, Abdomen"),
        ("abdomen CT", None, None, None, "RCMed report: abdomen CT"),
        ("", 3, "t1\\mprage", None, "RCMed report: 3 t1 mprage"),
        ("", None, None, None, "RCMed report"),
        ("a" * 60, 3, "late", None, f"RCMed report: {'a' * 42}, 3 late"),
        ("a" * 60, 3, "b" * 64, None, f"RCMed report: {'a' * 24}, 3 {'b' * 22}"),
        ("ct", 12, "ü" * 64, None, f"RCMed report: ct, 12 {'ü' * 43}"),
    ],
)
def test_a_series_description_has_its_64_characters(
    route: str, number: int | None, description: str | None, protocol: str | None, expected: str
) -> None:
    header = Dataset()
    header.SeriesNumber, header.ProtocolName = number, protocol
    header.add_new("SeriesDescription", "UT", description)
    named = replace(ResultIdentifiers.derive("job", route=route), source=series_name(header))
    assert named.series_description("RCMed report") == expected
    assert len(expected) <= 64
    assert named.report_uid == ResultIdentifiers.derive("job").report_uid, "a name changes no UID"
