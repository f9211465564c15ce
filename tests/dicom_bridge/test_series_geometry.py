"""Generated series: every voxel keeps its place in the patient; irregular series are refused for the right reason."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

from dicom_bridge.errors import SeriesGeometryError
from dicom_bridge.series.dicom_reader import read_dicom
from dicom_bridge.series.images import read_series
from rcmed.errors import NotAnImageError, UnknownFormatError, UnreadableFileError
from rcmed.modality import Modality
from rcmed.readers import read_images

ROWS, COLUMNS = 5, 7
FEW = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ORIENTATIONS = {
    "axial": [1, 0, 0, 0, 1, 0],
    "sagittal": [0, 1, 0, 0, 0, -1],
    "coronal": [1, 0, 0, 0, 0, -1],
    "feet first": [-1, 0, 0, 0, 1, 0],
}


def turned(orientation: Sequence[float], degrees: float) -> list[float]:
    axis = np.array([1.0, 2.0, 3.0]) / np.sqrt(14)
    angle = np.radians(degrees)
    cross = np.cross(np.eye(3), -axis)
    rotation = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return [float(v) for v in (np.reshape(orientation, (2, 3)) @ rotation.T).ravel()]


def slice_dataset(pixels: np.ndarray, series: str, **attributes: Any) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID = attributes.pop("SOPClassUID", CTImageStorage)
    dataset.SOPInstanceUID = generate_uid()
    dataset.SeriesInstanceUID, dataset.StudyInstanceUID = series, generate_uid(entropy_srcs=[series])
    dataset.Modality = "CT"
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation, dataset.SamplesPerPixel = 15, 1, 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.PixelData = pixels.astype("<i2").tobytes()
    for keyword, found in attributes.items():
        setattr(dataset, keyword, found)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def write_series(
    folder: Path,
    orientation: Sequence[float],
    heights: Sequence[float],
    spacing: Sequence[float] = (0.5, 0.8),
    **more: Any,
) -> tuple[list[Path], np.ndarray]:
    """Slices at these heights along the normal, files in that order; returns the paths and the pixels by height."""
    series, paths, frames = generate_uid(), [], []
    row, column = np.reshape(orientation, (2, 3))
    normal = np.cross(row, column)
    for number, height in enumerate(heights):
        pixels = np.random.default_rng(number).integers(-900, 900, (ROWS, COLUMNS))
        position = [round(float(v), 6) for v in np.array([10.0, -20.0, 30.0]) + height * normal]
        cosines = [round(v, 9) for v in orientation]
        dataset = slice_dataset(
            pixels, series, ImagePositionPatient=position, ImageOrientationPatient=cosines, PixelSpacing=list(spacing)
        )
        for keyword, found in more.items():
            setattr(dataset, keyword, found)
        paths.append(folder / f"{number:03d}.dcm")
        dataset.save_as(paths[-1], enforce_file_format=True)
        frames.append(pixels)
    return paths, np.array(frames)


def reason(folder: Path) -> str:
    with pytest.raises(SeriesGeometryError) as refusal:
        read_dicom(folder)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


@FEW
@given(
    name=st.sampled_from(sorted(ORIENTATIONS)),
    degrees=st.sampled_from((0.0, 7.5, -33.0)),
    step=st.sampled_from((0.625, 1.0, 5.0)),
    count=st.integers(2, 6),
    spacing=st.tuples(st.sampled_from((0.5, 2.0)), st.sampled_from((0.5, 1.25))),
    seed=st.integers(0, 1000),
)
def test_every_voxel_keeps_its_place(
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    degrees: float,
    step: float,
    count: int,
    spacing: tuple[float, float],
    seed: int,
) -> None:
    orientation = turned(ORIENTATIONS[name], degrees)
    heights = [step * number for number in range(count)]
    random.Random(seed).shuffle(heights)  # reversed and mixed orders of arrival
    paths, frames = write_series(
        tmp_path_factory.mktemp("series"), orientation, heights, spacing, RescaleSlope=1, RescaleIntercept=-24
    )
    reading = read_series(paths)
    assert reading.refusals == ()
    (image,) = reading.images
    assert image.is_volume and image.modality is Modality.CT and image.grid.in_patient_coordinates
    assert image.pixels.dtype == np.int16
    row, column = np.reshape(orientation, (2, 3))
    normal = np.cross(row, column)
    for place, number in enumerate(np.argsort(heights)):
        assert (image.pixels[place] == frames[number] - 24).all()
        assert image.sources[place].path == paths[number]
        origin = np.array([10.0, -20.0, 30.0]) + heights[number] * normal
        # PS3.3 C.7.6.2.1.1: the first spacing is between rows, along the column direction.
        expected = origin + 3 * spacing[0] * column + 4 * spacing[1] * row
        assert np.allclose(image.grid.to_patient(np.array([place, 3, 4])), expected, atol=1e-4)
    assert image.grid.spacing == pytest.approx((step, *spacing), rel=1e-4)


def test_missing_slices(tmp_path: Path) -> None:
    write_series(tmp_path, ORIENTATIONS["axial"], [0, 2, 4, 8, 10])
    assert "missing" in reason(tmp_path) and "about 1" in reason(tmp_path)


def test_three_slices_with_a_gap(tmp_path: Path) -> None:
    write_series(tmp_path, ORIENTATIONS["axial"], [0, 2, 6])
    assert "missing" in reason(tmp_path)


def test_uneven_steps(tmp_path: Path) -> None:
    write_series(tmp_path, ORIENTATIONS["axial"], [0, 2, 4.3, 6.2, 8])
    assert "vary from 1.8 to 2.3 mm" in reason(tmp_path)


def test_rounded_positions_pass(tmp_path: Path) -> None:
    write_series(tmp_path, turned(ORIENTATIONS["axial"], 20), [0, 6.96, 14.02, 21.0, 28.03])
    (image,) = read_dicom(tmp_path)
    assert image.grid.spacing[0] == pytest.approx(28.03 / 4, rel=1e-4)


def test_repeated_positions_and_time_series(tmp_path: Path) -> None:
    (tmp_path / "twice").mkdir()
    (tmp_path / "once").mkdir()
    write_series(tmp_path / "twice", ORIENTATIONS["axial"], [0, 2, 4] * 2)
    assert "4-D" in reason(tmp_path / "twice") and "3 positions" in reason(tmp_path / "twice")
    write_series(tmp_path / "once", ORIENTATIONS["axial"], [0, 2, 2, 4])
    assert "repeated" in reason(tmp_path / "once")


def test_the_same_instance_twice_counts_once(tmp_path: Path) -> None:
    paths, _ = write_series(tmp_path, ORIENTATIONS["coronal"], [0, 2, 4])
    (tmp_path / "copy.dcm").write_bytes(paths[0].read_bytes())
    (image,) = read_dicom(tmp_path)
    assert image.grid.shape[0] == 3


@pytest.mark.parametrize("degrees", [1.0, 14.0])
def test_tilt(tmp_path: Path, degrees: float) -> None:
    from pydicom import dcmread

    paths, _ = write_series(tmp_path, ORIENTATIONS["axial"], [0, 2, 4])
    for number, path in enumerate(paths):
        dataset = dcmread(path)
        dataset.ImagePositionPatient[1] += number * 2 * float(np.tan(np.radians(degrees)))
        dataset.save_as(path)
    assert f"tilted by {degrees:.1f} degrees" in reason(tmp_path)


def test_mixed_orientations_spacings_and_no_positions(tmp_path: Path) -> None:
    from pydicom import dcmread

    for change in ("ImageOrientationPatient", "PixelSpacing", "ImagePositionPatient"):
        folder = tmp_path / change
        folder.mkdir()
        paths, _ = write_series(folder, ORIENTATIONS["axial"], [0, 2, 4])
        dataset = dcmread(paths[1])
        if change == "ImagePositionPatient":
            del dataset.ImagePositionPatient
        else:
            setattr(dataset, change, [0.9, 0.9] if change == "PixelSpacing" else ORIENTATIONS["coronal"])
        dataset.save_as(paths[1])
        assert change in reason(folder)


def test_localizers_beside_a_stack_are_left_out(tmp_path: Path) -> None:
    from pydicom import dcmread

    paths, _ = write_series(tmp_path, ORIENTATIONS["axial"], [0, 2, 4, 50])
    dataset = dcmread(paths[3])
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    dataset.ImageOrientationPatient = ORIENTATIONS["coronal"]
    dataset.save_as(paths[3])
    (image,) = read_dicom(tmp_path)
    assert image.grid.shape[0] == 3 and "LOCALIZER" in image.warnings[-1]


def test_several_series_stay_apart(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_series(tmp_path / name, ORIENTATIONS["axial"], [0, 2, 4])
    images = read_images(tmp_path)
    assert len(images) == 2 and len({image.series_instance_uid for image in images}) == 2


@pytest.mark.parametrize("spacing", [[0, 0], [0.5, 0.5, 0.5], None])
def test_spacing_without_trust(tmp_path: Path, spacing: list[float] | None) -> None:
    dataset = slice_dataset(np.zeros((ROWS, COLUMNS)), generate_uid(), ImagePositionPatient=[0, 0, 0])
    dataset.ImageOrientationPatient = ORIENTATIONS["axial"]
    if spacing:
        dataset.PixelSpacing = spacing
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    (image,) = read_dicom(tmp_path / "a.dcm")
    assert not image.grid.in_millimetres and not image.grid.in_patient_coordinates
    assert "PixelSpacing" in image.warnings[0]


@FEW
@given(order=st.permutations(range(4)), name=st.sampled_from(sorted(ORIENTATIONS)), slope=st.sampled_from((1.0, 2.5)))
def test_enhanced_frames_are_sorted(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], name: str, slope: float
) -> None:
    frames = np.random.default_rng(1).integers(0, 900, (4, ROWS, COLUMNS))
    dataset = slice_dataset(frames, generate_uid(), SOPClassUID=EnhancedMRImageStorage, Modality="MR")
    dataset.NumberOfFrames = 4
    normal = np.cross(*np.reshape(ORIENTATIONS[name], (2, 3)))
    shared, measures, plane, value = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [0.5, 0.8], 3
    plane.ImageOrientationPatient = ORIENTATIONS[name]
    value.RescaleSlope, value.RescaleIntercept, value.RescaleType = slope, 0, "US"
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [plane]
    shared.PixelValueTransformationSequence = [value]
    dataset.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for height in order:
        group, position = Dataset(), Dataset()
        position.ImagePositionPatient = [float(v) for v in 3.0 * height * normal]
        group.PlanePositionSequence = [position]
        groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence = groups
    path = tmp_path_factory.mktemp("enhanced") / "a.dcm"
    dataset.save_as(path, enforce_file_format=True)
    (image,) = read_dicom(path)
    assert image.is_volume and image.modality is Modality.MR
    for place in range(4):
        assert (image.pixels[place] == frames[order.index(place)] * slope).all()
        assert image.sources[place].frame_number == order.index(place) + 1
    assert image.grid.spacing == pytest.approx((3.0, 0.5, 0.8))


def test_monochrome1_is_inverted_but_not_for_hounsfield_units(tmp_path: Path) -> None:
    pixels = np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS)
    for modality, expected in (("DX", 4095 - pixels), ("CT", pixels - 1024)):
        dataset = slice_dataset(pixels, generate_uid(), Modality=modality, PhotometricInterpretation="MONOCHROME1")
        dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 11, 0
        if modality == "CT":
            dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
        else:
            dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
        dataset.save_as(tmp_path / f"{modality}.dcm", enforce_file_format=True)
        assert (read_dicom(tmp_path / f"{modality}.dcm")[0].pixels[0] == expected).all()


@pytest.mark.parametrize(("padding", "limit"), [(-2000, None), (63536, None), (-2000, -1990)])
def test_padding_of_a_ct_becomes_air(tmp_path: Path, padding: int, limit: int | None) -> None:
    pixels = np.full((ROWS, COLUMNS), 30)
    pixels[0] = [-2000, -1995, -1990, -1500, -1024, 0, 2000]
    dataset = slice_dataset(pixels, generate_uid(), RescaleSlope=1, RescaleIntercept=-24)
    dataset.add_new("PixelPaddingValue", "SS" if padding < 0 else "US", padding)
    if limit is not None:
        dataset.add_new("PixelPaddingRangeLimit", "SS", limit)
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    expected = pixels - 24
    expected[0, : 1 if limit is None else 3] = -1000
    assert (read_dicom(tmp_path / "a.dcm")[0].pixels[0] == expected).all()


def test_padding_in_the_range_of_tissue_is_not_believed(tmp_path: Path) -> None:
    dataset = slice_dataset(np.zeros((ROWS, COLUMNS)), generate_uid(), RescaleSlope=1, RescaleIntercept=40)
    dataset.add_new("PixelPaddingValue", "SS", 0)
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    assert (read_dicom(tmp_path / "a.dcm")[0].pixels == 40).all()


def test_unused_high_bits_are_cleared(tmp_path: Path) -> None:
    pixels = np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS)
    dirty = slice_dataset(pixels | 0x5000, generate_uid(), SOPClassUID=MRImageStorage, Modality="MR")
    dirty.BitsStored, dirty.HighBit, dirty.PixelRepresentation = 12, 11, 0
    dirty.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    assert (read_dicom(tmp_path / "a.dcm")[0].pixels[0] == pixels).all()


def test_lies_are_refused_before_anything_is_allocated(tmp_path: Path) -> None:
    pixels = np.zeros((ROWS, COLUMNS))
    huge = slice_dataset(pixels, generate_uid())
    huge.Rows = huge.Columns = 65535
    huge.save_as(tmp_path / "rows.dcm", enforce_file_format=True)
    with pytest.raises(UnreadableFileError, match="above the limit"):
        read_dicom(tmp_path / "rows.dcm")
    many = slice_dataset(pixels, generate_uid(), NumberOfFrames=2_000_000_000)
    many.save_as(tmp_path / "frames.dcm", enforce_file_format=True)
    with pytest.raises(UnreadableFileError, match="above the limit"):
        read_dicom(tmp_path / "frames.dcm")
    few = slice_dataset(pixels, generate_uid(), NumberOfFrames=3)
    few.save_as(tmp_path / "few.dcm", enforce_file_format=True)
    with pytest.raises(UnreadableFileError, match="holds 70 bytes where 210 are needed"):
        read_dicom(tmp_path / "few.dcm")
    whole = (tmp_path / "rows.dcm").read_bytes()
    (tmp_path / "cut.dcm").write_bytes(whole[: len(whole) // 2])
    with pytest.raises((UnreadableFileError, NotAnImageError)):
        read_dicom(tmp_path / "cut.dcm")
    with pytest.raises(UnknownFormatError):
        (tmp_path / "noise.dcm").write_bytes(bytes(range(256)) * 8)
        read_dicom(tmp_path / "noise.dcm")
