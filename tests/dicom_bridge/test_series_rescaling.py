"""What stored numbers mean: HU only where every slice says so, and never two scales in one volume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.uid import generate_uid

from dicom_bridge.errors import SeriesGeometryError
from dicom_bridge.series.dicom_reader import read_dicom
from dicom_bridge.series.images import read_series
from rcmed.image import UNKNOWN_UNIT, Image
from rcmed.measurements import measure
from synthetic_study import ct_slice

RESCALE = ("RescaleSlope", "RescaleIntercept", "RescaleType")


def stored_slice(number: int, uids: tuple[str, str, str]) -> Dataset:
    """As a scanner stores it: unsigned, 1024 above HU; air, and a square of 300 HU."""
    dataset = ct_slice(number, *uids)
    pixels = np.where(dataset.pixel_array > 100, 300, -1000)
    dataset.PixelRepresentation, dataset.RescaleIntercept = 0, -1024
    dataset.PixelData = (pixels + 1024).astype("<u2").tobytes()
    return dataset


def write(folder: Path, *each: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    uids = generate_uid(), generate_uid(), generate_uid()
    for number, attributes in enumerate(each):
        dataset = stored_slice(number, uids)
        for keyword, found in attributes.items():
            if found is None:
                delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, found)
        dataset.save_as(folder / f"{number:03d}.dcm", enforce_file_format=True)
    return folder


def attenuation(image: Image) -> list[float]:
    """Of the square."""
    mask = np.zeros(image.grid.shape, bool)
    mask[:, 10:18, 11:15] = True
    return [found.value for found in measure(mask, image) if found.name == "mean attenuation"]


def test_hounsfield_units_are_measured_where_every_slice_tells_them(tmp_path: Path) -> None:
    (image,) = read_dicom(write(tmp_path, *[{}] * 4))
    assert image.unit is None and image.warnings == () and attenuation(image) == [300.0]
    (image,) = read_dicom(write(tmp_path, *[{"RescaleType": None}] * 4))
    assert attenuation(image) == [300.0]


@pytest.mark.parametrize(
    ("fault", "tags"),
    [
        (dict.fromkeys(RESCALE), ["(0028,1052)", "(0028,1053)"]),
        ({"RescaleIntercept": None}, ["(0028,1052)"]),
        ({"RescaleIntercept": ""}, ["(0028,1052)"]),
        ({"RescaleSlope": None}, ["(0028,1053)"]),
        ({"RescaleSlope": 0}, ["(0028,1053)"]),
        ({"RescaleType": "HU_MOD"}, ["(0028,1054)"]),
        ({"RescaleType": "US"}, ["(0028,1054)"]),
        ({"RescaleIntercept": 0}, ["(0028,1052)"]),
    ],
)
def test_a_ct_that_does_not_tell_them_is_read_without(tmp_path: Path, fault: dict[str, Any], tags: list[str]) -> None:
    for count in (1, 4):
        (image,) = read_dicom(write(tmp_path / str(count), *[fault] * count))
        assert image.unit == UNKNOWN_UNIT and attenuation(image) == []
        line = next(line for line in image.warnings if "no HU is measured" in line)
        assert all(tag in line for tag in tags)


@pytest.mark.parametrize("fault", [dict.fromkeys(RESCALE), {"RescaleSlope": 0}, {"RescaleType": "US"}])
def test_slices_on_another_scale_are_left_out_and_the_rest_is_said_to_be_incomplete(
    tmp_path: Path, fault: dict[str, Any]
) -> None:
    reading = read_series(sorted(write(tmp_path, *[{}] * 4, *[fault] * 3).iterdir()))
    (image,), (refusal,) = reading.images, reading.refusals
    assert [path.name for path in refusal.paths] == ["004.dcm", "005.dcm", "006.dcm"] and not refusal.left_out
    assert "004.dcm" in str(refusal.reason) and "(0028,10" in str(refusal.reason)
    assert image.grid.shape[0] == 4 and (image.pixels.max(), image.pixels.min()) == (300, -1000)
    assert attenuation(image) == [] and any("incomplete: 3 of 7 slices" in line for line in image.warnings)


def test_a_slice_on_another_scale_within_the_stack_refuses_it_and_names_the_tag(tmp_path: Path) -> None:
    write(tmp_path, *[{}] * 3, dict.fromkeys(RESCALE), *[{}] * 3)
    with pytest.raises(SeriesGeometryError, match=r"slices are missing.*003.dcm.*\(0028,1052\)"):
        read_dicom(tmp_path)


def test_of_two_faults_the_more_frequent_is_one_scale(tmp_path: Path) -> None:
    reading = read_series(
        sorted(write(tmp_path, *[{"RescaleType": "US"}] * 4, *[dict.fromkeys(RESCALE)] * 2).iterdir())
    )
    (image,), (refusal,) = reading.images, reading.refusals
    assert image.grid.shape[0] == 4 and image.unit == UNKNOWN_UNIT and len(refusal.paths) == 2


def test_a_modality_table_of_something_else_makes_no_hounsfield_units(tmp_path: Path) -> None:
    table = Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [2048, 0, 16], "US"
    table.LUTData = np.arange(2048, dtype="<u2").tobytes()
    (image,) = read_dicom(write(tmp_path, *[{**dict.fromkeys(RESCALE), "ModalityLUTSequence": [table]}] * 3))
    assert image.unit == UNKNOWN_UNIT and "Modality LUT Type (0028,3004) is US" in image.warnings[-1]


@pytest.mark.parametrize(("slope", "intercept", "kept"), [(1, 0, 6), (2, 0, 3), (1, -24, 3)])
def test_mr_needs_no_rescale_but_none_or_all_of_its_slices(
    tmp_path: Path, slope: float, intercept: float, kept: int
) -> None:
    mr = {"Modality": "MR", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4"}
    told = {**mr, "RescaleSlope": slope, "RescaleIntercept": intercept}
    reading = read_series(sorted(write(tmp_path, *[told] * 3, *[{**mr, **dict.fromkeys(RESCALE)}] * 3).iterdir()))
    (image,) = reading.images
    assert image.grid.shape[0] == kept and image.unit is None and len(reading.refusals) == (kept == 3)


def test_a_pet_without_rescale_has_no_uptake_values(tmp_path: Path) -> None:
    pet = {"Modality": "PT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.128", "Units": "GML", **dict.fromkeys(RESCALE)}
    (image,) = read_dicom(write(tmp_path, *[pet] * 3))
    assert image.unit == UNKNOWN_UNIT and "no SUV is measured" in image.warnings[-1]


def test_values_that_overflow_are_background(tmp_path: Path) -> None:
    (image,) = read_dicom(write(tmp_path, *[{"RescaleSlope": "1e37"}] * 3))
    assert np.isfinite(image.pixels).all() and any("no numbers" in line for line in image.warnings)
