"""What slices of one volume have in common: patient, study, frame of reference; what is no slice makes none."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import EnhancedCTImageStorage

from dicom_bridge.errors import SeriesGeometryError
from dicom_bridge.results.filing import file_results
from dicom_bridge.results.identifiers import ResultIdentifiers
from dicom_bridge.series.dicom_reader import read_dicom
from dicom_bridge.series.images import read_series
from synthetic_study import ThresholdAssistant, ct_slice

STUDY, SERIES, FRAME = (f"1.2.826.0.1.3680043.8.498.{number}" for number in (11, 12, 13))


def write(folder: Path, *each: dict[str, Any]) -> list[Path]:
    """A slice for each, one above the other, with these attributes (None: without them)."""
    folder.mkdir(exist_ok=True)
    paths = []
    for number, attributes in enumerate(each):
        dataset = ct_slice(number, STUDY, SERIES, FRAME)
        for keyword, found in attributes.items():
            if found is None:
                delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, found)
        paths.append(folder / f"{number:03d}.dcm")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


@pytest.mark.parametrize(
    ("keyword", "first", "second", "tag"),
    [
        ("PatientID", "P1", "P2", "(0010,0020)"),
        ("PatientID", "P1", None, "(0010,0020)"),
        ("PatientName", "Doe^John", "Roe^Jane", "(0010,0010)"),
        ("PatientBirthDate", "19500101", "19600101", "(0010,0030)"),
        ("StudyInstanceUID", STUDY, "1.2.3", "(0020,000D)"),
    ],
)
def test_two_of_them_in_one_series_are_two_images(
    tmp_path: Path, keyword: str, first: str, second: str | None, tag: str
) -> None:
    paths = write(tmp_path, *[{keyword: first}] * 3, *[{keyword: second}] * 3)
    readings = [read_series(order) for order in (paths, random.Random(0).sample(paths, len(paths)))]
    for reading in readings:
        assert not reading.refusals
        found = [[source.path for source in image.sources] for image in reading.images]
        assert sorted(found) == [paths[:3], paths[3:]]
        assert found == [[source.path for source in image.sources] for image in readings[0].images]
        for number, image in enumerate(reading.images, 1):
            line = next(line for line in image.warnings if tag in line)
            assert f"this is part {number} of 2, 3 of 6 slices" in line
            assert "John" not in line and "P1" not in line and "1950" not in line


def test_results_are_filed_under_the_patient_of_their_own_slices(tmp_path: Path) -> None:
    paths = write(tmp_path / "in", *[{"PatientID": "P1"}] * 3, *[{"PatientID": "P2"}] * 3)
    for number, image in enumerate(read_series(paths).images):
        findings = ThresholdAssistant().find(image, "liver")
        filed = file_results(image, findings, ResultIdentifiers.derive(f"job/{number}"), tmp_path / str(number))
        assert filed.files
        for file in filed.files:
            assert dcmread(file).PatientID == f"P{number + 1}"


@pytest.mark.parametrize(
    "second",
    [
        {"PatientName": "SYNTHETIC^SQUARE^^^"},
        {"PatientName": "Synthetic^Square"},
        {"PatientName": None, "PatientBirthDate": None, "PatientSex": "F"},
        {"PatientID": "SYN-1 "},
    ],
)
def test_one_patient_written_in_two_ways_stays_one_volume(tmp_path: Path, second: dict[str, Any]) -> None:
    write(tmp_path, *[{}] * 2, *[second] * 2)
    (image,) = read_dicom(tmp_path)
    assert image.grid.shape[0] == 4 and image.warnings == ()


def test_another_name_of_one_id_and_birth_date_is_said(tmp_path: Path) -> None:
    who = {"PatientBirthDate": "19700101"}
    again = {"PatientBirthDate": "1970.01.01", "PatientName": "Married^Name"}
    write(tmp_path, *[who] * 2, *[again] * 2)
    (image,) = read_dicom(tmp_path)
    assert "Patient's Name (0010,0010) differs" in image.warnings[0] and "Married" not in image.warnings[0]


@pytest.mark.parametrize("second", ["1.2.826.0.1.3680043.8.498.2", None])
def test_two_frames_of_reference_make_no_volume(tmp_path: Path, second: str | None) -> None:
    write(tmp_path, *[{}] * 3, *[{"FrameOfReferenceUID": second}] * 2)
    with pytest.raises(SeriesGeometryError, match=r"2 values of Frame of Reference UID \(0020,0052\).*3, 2 slices"):
        read_dicom(tmp_path)


def test_slices_of_another_size_are_said(tmp_path: Path) -> None:
    small = {"Rows": 16, "Columns": 64}
    write(tmp_path, *[{}] * 3, *[small] * 3)
    images = read_dicom(tmp_path)
    assert sorted(image.grid.shape for image in images) == [(3, 16, 64), (3, 32, 32)]
    assert all("Rows (0028,0010)" in image.warnings[0] for image in images)


@pytest.mark.parametrize("count", [1, 2])
def test_localizers_alone_are_no_slices(tmp_path: Path, count: int) -> None:
    write(tmp_path, *[{"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER", "CT_SOM5 TOP"]}] * count)
    with pytest.raises(SeriesGeometryError, match=f"{count} localizer image.*0008,0008"):
        read_dicom(tmp_path)


def enhanced(folder: Path, groups: Sequence[Dataset], image_type: Sequence[str] = ("ORIGINAL", "PRIMARY")) -> Path:
    dataset = ct_slice(0, STUDY, SERIES, FRAME)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient"):
        delattr(dataset, keyword)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    dataset.ImageType, dataset.NumberOfFrames = list(image_type), len(groups)
    dataset.PixelData = dataset.PixelData * len(groups)
    dataset.PerFrameFunctionalGroupsSequence = list(groups)
    folder.mkdir(exist_ok=True)
    dataset.save_as(folder / "a.dcm", enforce_file_format=True)
    return folder / "a.dcm"


def frame(height: float, stack: str | None = None, frame_type: str | None = None, kernel: str | None = None) -> Dataset:
    group, position, orientation, content = Dataset(), Dataset(), Dataset(), Dataset()
    position.ImagePositionPatient = [0.0, 0.0, height]
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    if stack is not None:
        content.StackID = stack
    group.PlanePositionSequence, group.PlaneOrientationSequence = [position], [orientation]
    group.FrameContentSequence = [content]
    if frame_type is not None:
        kind = Dataset()
        kind.FrameType = ["ORIGINAL", "PRIMARY", frame_type, "NONE"]
        group.CTImageFrameTypeSequence = [kind]
    if kernel is not None:
        reconstruction = Dataset()
        reconstruction.ConvolutionKernel = kernel
        group.CTReconstructionSequence = [reconstruction]
    return group


def test_stacks_of_an_enhanced_object_are_never_joined(tmp_path: Path) -> None:
    # Regular all together: 0, 2, 4 of the one and 6, 8, 10 of the other.
    path = enhanced(tmp_path, [frame(2.0 * number, "1" if number < 3 else "2") for number in range(6)])
    first, second = read_dicom(path)
    assert [source.frame_number for source in first.sources] == [1, 2, 3]
    assert [source.frame_number for source in second.sources] == [4, 5, 6]
    assert "2 stacks in one object; this is Stack ID (0020,9056) 2" in second.warnings[-1]


def test_a_stack_of_an_enhanced_object_that_is_irregular_refuses_it(tmp_path: Path) -> None:
    path = enhanced(tmp_path, [frame(h, s) for h, s in ((0, "1"), (2, "1"), (4, "1"), (5, "2"), (6, "2"), (9, "2"))])
    with pytest.raises(SeriesGeometryError, match=r"slices are missing.*Stack ID \(0020,9056\) 2"):
        read_dicom(path)


def test_interleaved_kernels_of_an_enhanced_object_are_split(tmp_path: Path) -> None:
    path = enhanced(tmp_path, [frame(float(number), "1", None, "B70" if number % 2 else "B31") for number in range(8)])
    images = read_dicom(path)
    assert [[source.frame_number for source in image.sources] for image in images] == [[1, 3, 5, 7], [2, 4, 6, 8]]
    assert [image.grid.spacing[0] for image in images] == [2.0, 2.0]


def test_localizer_frames_are_left_out(tmp_path: Path) -> None:
    kinds = ["LOCALIZER", *["VOLUME"] * 4]
    path = enhanced(tmp_path, [frame(float(number), "1", kind) for number, kind in enumerate(kinds)])
    (image,) = read_dicom(path)
    assert [source.frame_number for source in image.sources] == [2, 3, 4, 5]
    assert any("1 localizer frames (Frame Type (0008,9007))" in line for line in image.warnings)
    path = enhanced(tmp_path, [frame(float(number), "1", "LOCALIZER") for number in range(3)])
    with pytest.raises(SeriesGeometryError, match="all 3 frames are localizers"):
        read_dicom(path)
    path = enhanced(tmp_path, [frame(0.0), frame(1.0)], ("ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"))
    with pytest.raises(SeriesGeometryError, match="1 localizer image"):
        read_dicom(path)
