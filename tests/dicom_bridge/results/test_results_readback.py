"""From source files to a written SEG and back: a mask lies where the pixels are from which it was made.

The mask is what is bright. What is bright is worked out a second time from the stored pixels and attributes of the
source instances, by pydicom and numpy alone, so that the reading of the series is under test as well.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from dicom_bridge.results.identifiers import ResultIdentifiers
from dicom_bridge.results.result_files import write_result
from dicom_bridge.results.segmentations.reading import read_segments
from dicom_bridge.results.segmentations.segmentation import build_segmentation
from dicom_bridge.series.images import read_series
from rcmed.image import Image

AXES = {
    "axial": np.eye(3),
    "coronal": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "sagittal": np.array([[0.0, 0, -1], [1, 0, 0], [0, -1, 0]]),
}
SHAPE = (3, 5, 7)
TOLERANCE_MM = 1e-2

rotations = st.one_of(
    st.sampled_from(sorted(AXES)).map(lambda name: AXES[name]),
    st.tuples(*[st.floats(-180, 180)] * 3).map(lambda a: Rotation.from_euler("zyx", a, degrees=True).as_matrix()),
)
few = settings(max_examples=8, deadline=None)


def fill(path: Path, seed: Sequence[int]) -> None:
    """Put random pixels into an instance."""
    dataset = dcmread(path)
    kind = np.dtype("u1" if dataset.BitsAllocated == 8 else "<u2")
    length = len(dataset.PixelData) // kind.itemsize
    values = np.random.default_rng(seed).integers(0, 2**dataset.BitsStored, length)
    dataset.PixelData = values.astype(kind).tobytes()
    dataset.save_as(path)


def is_bright(pixels: NDArray[Any], bits: int) -> NDArray[np.bool_]:
    first = pixels[..., 0] if pixels.ndim == 4 else pixels
    return np.asarray(first > 0.7 * 2**bits)


def stored_bright(dataset: Dataset) -> NDArray[np.bool_]:
    """What is bright in each frame, by the stored pixels."""
    rows, columns, samples = dataset.Rows, dataset.Columns, dataset.SamplesPerPixel
    kind = "u1" if dataset.BitsAllocated == 8 else "<u2"
    pixels = np.frombuffer(dataset.PixelData, kind)[: rows * columns * samples * int(dataset.get("NumberOfFrames", 1))]
    pixels = pixels.reshape(-1, rows, columns, *([samples] if samples > 1 else []))
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        pixels = 2**dataset.BitsStored - 1 - pixels.astype(int)
    return is_bright(pixels, dataset.BitsStored)


def source_points(paths: Sequence[Path]) -> NDArray[np.float64]:
    """Patient coordinates of what is bright (PS3.3 equation C.7.6.2.1-1), in LPS mm."""
    points = []
    for dataset in map(dcmread, paths):
        for groups, bright in zip(_placed(dataset), stored_bright(dataset), strict=True):
            position, orientation, spacing = (np.array(value, dtype=float) for value in groups)
            row, column = np.nonzero(bright)
            points.append(
                position + column[:, None] * orientation[:3] * spacing[1] + row[:, None] * orientation[3:] * spacing[0]
            )
    return np.concatenate(points)


def _placed(dataset: Dataset) -> Iterator[tuple[Any, Any, Any]]:
    """Position, orientation and spacing of each frame."""
    if "PerFrameFunctionalGroupsSequence" not in dataset:
        yield dataset.ImagePositionPatient, dataset.ImageOrientationPatient, dataset.PixelSpacing
        return
    shared = dataset.SharedFunctionalGroupsSequence[0]
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        measures = frame.get("PixelMeasuresSequence") or shared.PixelMeasuresSequence
        orientation = shared.PlaneOrientationSequence[0].ImageOrientationPatient
        yield frame.PlanePositionSequence[0].ImagePositionPatient, orientation, measures[0].PixelSpacing


def assert_same_points(found: NDArray[np.float64], expected: NDArray[np.float64]) -> None:
    """Both are one set of points; they are further apart than the tolerance, so each finds one partner only."""
    assert found.shape == expected.shape
    for one, other in ((found, expected), (expected, found)):
        distances, _ = cKDTree(one).query(other)
        assert distances.max() < TOLERANCE_MM


def write_segmentation(sources: Any, paths: Sequence[Path], folder: Path) -> tuple[Image, NDArray[np.bool_], Path]:
    """Read the series, find what is bright, write the SEG."""
    reading = read_series(paths)
    assert reading.refusals == ()
    (image,) = reading.images
    mask = is_bright(image.pixels, 8 if image.is_colour else 12)
    segmentation = build_segmentation(
        sources.findings(image, sources.found(mask)), image, ResultIdentifiers.derive("job")
    )
    assert segmentation is not None
    return image, mask, write_result(segmentation, folder / "results")


def check_points(second_reader: Any, path: Path, sources: Sequence[Path]) -> None:
    expected = source_points(sources)
    assert_same_points(second_reader.points(path, 1), expected)
    volume = highdicom.seg.segread(path).get_volume(combine_segments=True)
    assert_same_points(volume.map_indices_to_reference(np.argwhere(volume.array)), expected)


@few
@given(
    rotation=rotations,
    spacing=st.tuples(st.integers(20, 300), st.integers(20, 300)).map(lambda s: (s[0] / 100, s[1] / 100)),
    distance=st.integers(30, 1000).map(lambda d: d / 100),
    reverse=st.booleans(),
    order=st.permutations(range(SHAPE[0])),
    modality=st.sampled_from(["CT", "MR"]),
    seed=st.integers(0, 1000),
)
def test_series(
    sources: Any,
    second_reader: Any,
    rotation: NDArray[np.float64],
    spacing: tuple[float, float],
    distance: float,
    reverse: bool,
    order: list[int],
    modality: str,
    seed: int,
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        written = sources.volume(folder, SHAPE, spacing, distance, rotation, reverse, modality).files
        for number, path in enumerate(written):
            fill(path, (seed, number))
        image, mask, result = write_segmentation(sources, [written[number] for number in order], folder)
        assert image.is_volume and image.grid.shape == SHAPE
        check_points(second_reader, result, written)
        np.testing.assert_array_equal(read_segments(result, image)[0].mask, mask)


@few
@given(frames=st.permutations(range(1, SHAPE[0] + 1)), measures_per_frame=st.booleans(), seed=st.integers(0, 1000))
def test_enhanced_multi_frame(
    sources: Any, second_reader: Any, frames: list[int], measures_per_frame: bool, seed: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (path,) = sources.enhanced(folder, SHAPE, frames, measures_per_frame).files
        fill(path, (seed,))
        image, mask, result = write_segmentation(sources, [path], folder)
        assert image.is_volume and image.grid.shape == SHAPE
        check_points(second_reader, result, [path])
        np.testing.assert_array_equal(read_segments(result, image)[0].mask, mask)
        dataset = dcmread(path)
        by_frame = second_reader.by_reference(result, 1)
        for number, bright in enumerate(stored_bright(dataset), start=1):
            np.testing.assert_array_equal(by_frame[(str(dataset.SOPInstanceUID), number)], bright)


@pytest.mark.parametrize(
    ("modality", "colour", "attributes"),
    [
        ("CR", False, {}),
        ("CR", False, {"PhotometricInterpretation": "MONOCHROME1", "PixelSpacing": [0.3, 0.2]}),
        ("OP", True, {}),
        ("XC", True, {}),
    ],
    ids=["grey", "MONOCHROME1", "RGB fundus", "RGB photograph"],
)
@few
@given(shape=st.tuples(st.integers(3, 9), st.integers(3, 9)), seed=st.integers(0, 1000))
def test_pictures(
    sources: Any,
    second_reader: Any,
    modality: str,
    colour: bool,
    attributes: dict[str, Any],
    shape: tuple[int, int],
    seed: int,
) -> None:
    """A picture has no place in the patient: its pixels are compared by row and column."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (path,) = sources.planar(folder, modality, shape, colour, **attributes).files
        fill(path, (seed,))
        dataset = dcmread(path)
        (expected,) = stored_bright(dataset)
        assume(expected.any())
        image, mask, result = write_segmentation(sources, [path], folder)
        ((reference, pixels),) = second_reader.by_reference(result, 1).items()
        assert reference == (dataset.SOPInstanceUID, None)
        np.testing.assert_array_equal(pixels, expected)
        np.testing.assert_array_equal(read_segments(result, image)[0].mask, mask)
        read = highdicom.seg.segread(result)
        (found,) = read.get_pixels_by_source_instance([dataset.SOPInstanceUID], combine_segments=True)
        np.testing.assert_array_equal(found.astype(bool), expected)
        shared = read.SharedFunctionalGroupsSequence[0]
        assert "FrameOfReferenceUID" not in read and "PlaneOrientationSequence" not in shared
        measures = [item.PixelSpacing for item in shared.get("PixelMeasuresSequence", [])]
        assert measures == ([attributes["PixelSpacing"]] if "PixelSpacing" in attributes else [])
