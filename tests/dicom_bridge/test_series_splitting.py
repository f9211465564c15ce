"""Several volumes in one series: split by what the header says, in any order; results refer to their own slices."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from dicom_bridge.errors import SeriesGeometryError
from dicom_bridge.results.filing import file_results
from dicom_bridge.results.identifiers import ResultIdentifiers
from dicom_bridge.series.dicom_reader import read_dicom
from dicom_bridge.series.geometry import FramePlane
from dicom_bridge.series.headers.instance import Instance
from dicom_bridge.series.images import read_series
from dicom_bridge.series.splitting import split_volumes
from synthetic_study import ThresholdAssistant, ct_slice

KEYWORDS = ("EchoTime", "DiffusionBValue", "TemporalPositionIdentifier", "InversionTime", "AcquisitionNumber")


def plane(height: float) -> FramePlane:
    return FramePlane(np.array([0.0, 0.0, height]), np.eye(3)[:2], (1.0, 1.0), 1.0)


def instance(**attributes: Any) -> Instance:
    header = Dataset()
    header.SOPInstanceUID = generate_uid()
    for keyword, value in attributes.items():
        setattr(header, keyword, value)
    return Instance(Path("x.dcm"), header, 1, 1, 1, 2)


@settings(max_examples=60, deadline=None)
@given(
    keyword=st.sampled_from(KEYWORDS),
    values=st.lists(st.integers(1, 99), min_size=2, max_size=5, unique=True),
    heights=st.lists(st.integers(-50, 50), min_size=2, max_size=6, unique=True),
    seed=st.integers(0, 1000),
)
def test_any_order_gives_the_same_parts(keyword: str, values: list[int], heights: list[int], seed: int) -> None:
    slices = [(value, height) for value in values for height in heights]
    random.Random(seed).shuffle(slices)
    frames = [(instance(**{keyword: value}), 0) for value, _ in slices]
    parts = split_volumes([plane(height) for _, height in slices], frames)
    assert sorted(index for part in parts for index in part.members) == list(range(len(slices)))
    found = [{slices[index] for index in part.members} for part in parts]
    assert found == [{(value, height) for height in heights} for value in sorted(values)]
    for number, (part, value) in enumerate(zip(parts, sorted(values), strict=True), 1):
        assert f"{len(values)} volumes" in part.reason
        assert part.reason.endswith(f"this is part {number}: {keyword} {value}")


@settings(max_examples=60, deadline=None)
@given(slices=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=14))
def test_each_slice_is_in_exactly_one_part_and_no_part_repeats_a_position(slices: list[tuple[int, int, int]]) -> None:
    frames = [(instance(EchoTime=echo, DiffusionBValue=diffusion), 0) for echo, diffusion, _ in slices]
    parts = split_volumes([plane(height) for _, _, height in slices], frames)
    assert sorted(index for part in parts for index in part.members) == list(range(len(slices)))
    if len(parts) > 1:
        positions = [sorted(slices[index][2] for index in part.members) for part in parts]
        assert all(len(set(found)) == len(found) for found in positions)
        # The same positions, or those between each other's.
        first, *others = positions
        assert all(found == first or not set(found) & set(first) for found in others)


def test_two_attributes_together() -> None:
    slices = [(echo, diffusion, height) for echo in (5, 9) for diffusion in (0, 800) for height in (0, 3)]
    frames = [(instance(EchoTime=echo, DiffusionBValue=diffusion), 0) for echo, diffusion, _ in slices]
    parts = split_volumes([plane(height) for *_, height in slices], frames)
    assert [part.reason.rpartition(": ")[2] for part in parts] == [
        f"DiffusionBValue {diffusion}, EchoTime {echo}" for diffusion in (0, 800) for echo in (5, 9)
    ]


def write(folder: Path, rows: list[tuple[int, dict[str, Any]]]) -> list[Path]:
    study, series, paths = generate_uid(), generate_uid(), []
    for number, (place, attributes) in enumerate(rows):
        dataset = ct_slice(place, study, series, generate_uid(entropy_srcs=[study]))
        dataset.SOPInstanceUID = f"1.2.826.0.1.3680043.8.498.9.{number + 1}"
        dataset.PixelData = (dataset.pixel_array + attributes.pop("add", 0)).astype("<i2").tobytes()
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value)
        paths.append(folder / f"{number}.dcm")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


def test_time_points_become_volumes_whose_results_refer_to_their_own_slices(tmp_path: Path) -> None:
    rows = [(place, {"AcquisitionNumber": time, "add": 7 * time}) for place in range(3) for time in (1, 2)]
    paths = write(tmp_path, rows)
    reading = read_series(random.Random(1).sample(paths, len(paths)))
    assert not reading.refusals and len(reading.images) == 2
    for number, image in enumerate(reading.images):
        mine = paths[number::2]
        assert image.is_volume and [source.path for source in image.sources] == mine
        assert int(image.pixels.min()) == -100 + 7 * (number + 1)
        findings = ThresholdAssistant().find(image, "liver")
        filed = file_results(image, findings, ResultIdentifiers.derive(f"job/{number}"), tmp_path / str(number))
        assert not filed.refusals
        for file in filed.files:
            text = str(dcmread(file))
            for path in paths:
                uid = dcmread(path).SOPInstanceUID
                assert (f"{uid}\n" in text) == (path in mine), (file, path)


def test_frames_of_one_object_are_split(tmp_path: Path) -> None:
    dataset = ct_slice(0, generate_uid(), generate_uid(), generate_uid())
    dataset.NumberOfFrames = 6
    stored = np.arange(6 * 32 * 32, dtype="<i2").reshape(6, 32, 32)
    dataset.PixelData = stored.tobytes()
    groups = []
    for height in range(3):
        for time in (2, 1):
            content, position, group = Dataset(), Dataset(), Dataset()
            content.TemporalPositionIndex, position.ImagePositionPatient = time, [0.0, 0.0, 4.0 * height]
            orientation = Dataset()
            orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
            group.FrameContentSequence, group.PlanePositionSequence = [content], [position]
            group.PlaneOrientationSequence = [orientation]
            groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence = groups
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    first, second = read_dicom(tmp_path / "a.dcm")
    assert (first.pixels == stored[1::2]).all() and (second.pixels == stored[0::2]).all()
    assert [source.frame_number for source in first.sources] == [2, 4, 6]
    assert first.grid.matches(second.grid)


def test_what_nothing_tells_apart_is_refused(tmp_path: Path) -> None:
    write(tmp_path, [(place, {"add": time}) for place in range(3) for time in (1, 2)])
    with pytest.raises(SeriesGeometryError, match="told apart by no attribute"):
        read_dicom(tmp_path)


def test_a_time_series_of_very_many_volumes_is_refused(tmp_path: Path) -> None:
    write(tmp_path, [(place, {"AcquisitionNumber": time, "add": time}) for place in range(2) for time in range(1, 34)])
    with pytest.raises(SeriesGeometryError, match="33 volumes"):
        read_dicom(tmp_path)


def test_copies_of_a_slice_are_left_out_with_a_line(tmp_path: Path) -> None:
    paths = write(tmp_path, [(place, {}) for place in (0, 1, 1, 2)])
    for order in (paths, paths[::-1]):
        (image,) = read_series(order).images
        assert [source.path for source in image.sources] == [paths[0], paths[1], paths[3]]
        assert "1 slices repeat another's position and pixels" in image.warnings[-1]


def test_an_instance_that_comes_twice_is_said(tmp_path: Path) -> None:
    paths = write(tmp_path, [(place, {}) for place in range(3)])
    (tmp_path / "copy.dcm").write_bytes(paths[1].read_bytes())
    reading = read_series([*paths, tmp_path / "copy.dcm"])
    assert reading.images[0].grid.shape[0] == 3
    (refusal,) = reading.refusals
    assert refusal.left_out and refusal.paths == (tmp_path / "copy.dcm",) and "of another file" in str(refusal.reason)


@settings(max_examples=60, deadline=None)
@given(
    keyword=st.sampled_from(("ConvolutionKernel", "AcquisitionNumber", "EchoTime", "KVP", "SeriesNumber")),
    count=st.integers(2, 3),
    each=st.integers(3, 6),
    seed=st.integers(0, 1000),
)
def test_what_alternates_along_the_stack_is_interleaved(keyword: str, count: int, each: int, seed: int) -> None:
    slices = [(height % count, height) for height in range(count * each)]
    random.Random(seed).shuffle(slices)
    written = "B{}".format if keyword == "ConvolutionKernel" else int
    frames = [(instance(**{keyword: written(1 + kind)}), 0) for kind, _ in slices]
    parts = split_volumes([plane(height) for _, height in slices], frames)
    found = [{slices[index] for index in part.members} for part in parts]
    assert found == [{one for one in slices if one[0] == kind} for kind in range(count)]
    assert all(f"{count} volumes in one series, split by {keyword}" in part.reason for part in parts)


@pytest.mark.parametrize(
    "numbers",
    [
        [1, 1, 1, 2, 2, 3],  # slab by slab
        [4, 5, 6, 7, 8, 9],  # a counter of slices
        [1, 3, 5, 2, 4, 6],  # a counter of slices that were acquired in turns
        [1, 2, 3, 1, 2, 3],  # the same of two slabs
    ],
)
def test_acquisitions_that_follow_each_other_are_one_scan(numbers: list[int]) -> None:
    frames = [(instance(AcquisitionNumber=number), 0) for number in numbers]
    (part,) = split_volumes([plane(float(height)) for height in range(6)], frames)
    assert part.members == tuple(range(6)) and part.reason == "" and part.changes == ()


def test_phases_of_interleaved_kernels_are_all_told_apart() -> None:
    slices = [(phase, "AB"[height % 2], height) for height in range(6) for phase in (1, 2)]
    frames = [(instance(TemporalPositionIdentifier=phase, ConvolutionKernel=kernel), 0) for phase, kernel, _ in slices]
    parts = split_volumes([plane(height) for *_, height in slices], frames)
    assert [{slices[index] for index in part.members} for part in parts] == [
        {(phase, kernel, height) for height in range(kernel == "B", 6, 2)} for phase in (1, 2) for kernel in "AB"
    ]


def test_interleaved_reconstructions_become_volumes_of_their_own_steps(tmp_path: Path) -> None:
    rows = [(place, {"ConvolutionKernel": "B31f" if place % 2 else "B70f", "add": place % 2}) for place in range(8)]
    paths = write(tmp_path, rows)
    images = read_series(random.Random(3).sample(paths, len(paths))).images
    assert [[source.path for source in image.sources] for image in images] == [paths[1::2], paths[0::2]]
    assert [image.grid.spacing[0] for image in images] == [5.0, 5.0]
    assert [int(image.pixels.min()) for image in images] == [-99, -100]
    assert all("split by ConvolutionKernel" in line for image in images for line in image.warnings[-1:])


def test_interleaved_reconstructions_of_which_one_lacks_a_slice_are_refused(tmp_path: Path) -> None:
    rows = [(place, {"ConvolutionKernel": "B31f" if place in (2, 5) else "B70f"}) for place in range(8)]
    write(tmp_path, rows)
    with pytest.raises(SeriesGeometryError, match="split by ConvolutionKernel"):
        read_dicom(tmp_path)


def test_slabs_of_two_kernels_are_one_volume_with_a_line(tmp_path: Path) -> None:
    write(tmp_path, [(place, {"ConvolutionKernel": "B31f" if place < 3 else "B70f"}) for place in range(6)])
    (image,) = read_dicom(tmp_path)
    assert image.grid.shape[0] == 6 and "ConvolutionKernel change along the volume" in image.warnings[-1]


def test_two_acquisitions_that_only_their_time_tells_apart(tmp_path: Path) -> None:
    times = {0: "101001", 1: "110000"}
    write(tmp_path, [(place, {"AcquisitionTime": times[place % 2]}) for place in range(8)])
    assert [image.grid.shape[0] for image in read_dicom(tmp_path)] == [4, 4]
