"""A series that lacks slices says so: files beside its own that can't be read, numbers that its headers tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import PositronEmissionTomographyImageStorage, generate_uid

from dicom_bridge.series.dicom_reader import read_dicom
from dicom_bridge.series.images import read_series
from synthetic_study import ct_slice

PAGE = b"<html>504 Gateway Time-out</html>" * 20


def write(folder: Path, count: int = 4, name: str = "{:03d}.dcm", **attributes: Any) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    uids = generate_uid(), generate_uid(), generate_uid()
    paths = []
    for number in range(count):
        dataset = ct_slice(number, *uids)
        for keyword, found in attributes.items():
            setattr(dataset, keyword, found)
        paths.append(folder / name.format(number))
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


def incomplete(folder: Path) -> list[str]:
    (image,) = read_dicom(folder)
    return [line for line in image.warnings if "incomplete" in line]


@pytest.mark.parametrize(
    ("name", "stray"),
    [
        ("{:03d}.dcm", "003.dcm"),
        ("{:03d}.dcm", "003.DCM"),
        ("IM{:04d}", "IM0003"),
        ("{:03d}.ima", "003.dcm"),
        ("1.2.840.{}", "1.2.840.99"),
    ],
)
@pytest.mark.parametrize("content", [b"", PAGE, bytes(5000)])
def test_a_foreign_file_in_the_place_of_a_slice_is_told(tmp_path: Path, name: str, stray: str, content: bytes) -> None:
    write(tmp_path, 3, name)
    (tmp_path / stray).write_bytes(content)
    (line,) = incomplete(tmp_path)
    assert stray in line and "1 file(s) beside the slices can't be read" in line


def test_a_slice_that_is_cut_in_its_header_is_told(tmp_path: Path) -> None:
    paths = write(tmp_path)
    paths[3].write_bytes(paths[3].read_bytes()[:600])
    for lines in (incomplete(tmp_path), read_series(paths).images[0].warnings):
        assert any("003.dcm" in line and "incomplete" in line for line in lines)


def test_what_stands_on_a_medium_beside_a_series_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path / "DICOM" / "SE1", name="IM{:04d}.dcm")
    (tmp_path / "AUTORUN.INF").write_text("[autorun]")
    (tmp_path / "VIEWER.EXE").write_bytes(b"MZ" + bytes(3000))
    (tmp_path / "DICOM" / "SE1" / "notes.txt").write_text("of the reader")
    (tmp_path / "DICOM" / "SE1" / "preview.jpg").write_bytes(PAGE)
    (image,) = read_dicom(tmp_path)
    assert image.warnings == ()


def test_a_file_in_the_folder_of_another_series_concerns_only_that_one(tmp_path: Path) -> None:
    write(tmp_path / "a")
    write(tmp_path / "b")
    (tmp_path / "b" / "004.dcm").write_bytes(b"")
    told = {
        image.files[0].parent.name: any("incomplete" in line for line in image.warnings)
        for image in read_dicom(tmp_path)
    }
    assert told == {"a": False, "b": True}


def test_a_number_of_slices_that_is_not_reached_is_told(tmp_path: Path) -> None:
    pet = {"Modality": "PT", "SOPClassUID": PositronEmissionTomographyImageStorage}
    write(tmp_path / "short", NumberOfSlices=6, **pet)
    write(tmp_path / "whole", NumberOfSlices=4, **pet)
    (line,) = incomplete(tmp_path / "short")
    assert "4 slices are there where Number of Slices (0054,0081) says 6" in line
    assert incomplete(tmp_path / "whole") == []
    write(tmp_path / "ct", NumberOfSeriesRelatedInstances=5)
    assert "(0020,1209) says 5" in incomplete(tmp_path / "ct")[0]
