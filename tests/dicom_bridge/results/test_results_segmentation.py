"""A SEG lies exactly where its mask lies: read by highdicom and by a reader that shares no code with it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import highdicom
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from dicom_bridge.results.identifiers import ResultIdentifiers
from dicom_bridge.results.segmentations.segmentation import build_segmentation
from rcmed.codes import Code
from rcmed.errors import GridMismatchError, InputError
from rcmed.findings import FindingStatus
from rcmed.image import Grid, Image

AXES = {
    "axial": np.eye(3),
    "coronal": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "sagittal": np.array([[0.0, 0, -1], [1, 0, 0], [0, -1, 0]]),
}
IDENTIFIERS = ResultIdentifiers.derive("job")


def some_mask(image: Image, seed: int = 0) -> NDArray[np.bool_]:
    mask = np.random.default_rng(seed).random(image.grid.shape) < 0.3
    mask[-1, 0, -1] = True
    return mask


def points_of(grid: Grid, mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    return grid.to_patient(np.argwhere(mask).astype(float))


def in_order(points: NDArray[np.float64]) -> NDArray[np.float64]:
    rounded = np.round(points, 2) + 0.0
    return points[np.lexsort(rounded.T)]


rotations = st.one_of(
    st.sampled_from(sorted(AXES)).map(lambda name: AXES[name]),
    st.tuples(*[st.floats(-180, 180)] * 3).map(lambda a: Rotation.from_euler("zyx", a, degrees=True).as_matrix()),
)


@settings(max_examples=15, deadline=None)
@given(
    rotation=rotations,
    shape=st.tuples(st.integers(1, 5), st.integers(3, 9), st.integers(3, 9)),
    spacing=st.tuples(st.integers(20, 300), st.integers(20, 300)).map(lambda s: (s[0] / 100, s[1] / 100)),
    distance=st.integers(30, 1000).map(lambda d: d / 100),
    reverse=st.booleans(),
    modality=st.sampled_from(["CT", "MR"]),
    seed=st.integers(0, 1000),
)
@pytest.mark.slow
def test_series_is_read_back_in_place(
    sources, second_reader, rotation, shape, spacing, distance, reverse, modality, seed
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image = sources.volume(folder, shape, spacing, distance, rotation, reverse, modality)
        mask = some_mask(image, seed)
        segmentation = build_segmentation(sources.findings(image, sources.found(mask)), image, IDENTIFIERS)
        assert segmentation is not None
        path = folder / "seg.dcm"
        segmentation.save_as(path)

        points = second_reader.points(path, 1)
        expected = points_of(image.grid, mask)
        assert points.shape == expected.shape
        # Coordinates pass through decimal strings; a twentieth of the smallest voxel would already be a fault.
        np.testing.assert_allclose(in_order(points), in_order(expected), atol=1e-3)
        for number, reference in enumerate(image.sources):
            plane = second_reader.by_reference(path, 1).get((reference.sop_instance_uid, None))
            np.testing.assert_array_equal(plane if plane is not None else np.zeros(shape[1:], bool), mask[number])

        read = highdicom.seg.segread(path)
        pixels = read.get_pixels_by_source_instance(
            [reference.sop_instance_uid for reference in image.sources], combine_segments=True
        )
        np.testing.assert_array_equal(pixels.astype(bool), mask)
        if shape[0] > 1:
            volume = read.get_volume(combine_segments=True)
            found = volume.map_indices_to_reference(np.argwhere(volume.array))
            np.testing.assert_allclose(in_order(found), in_order(expected), atol=1e-3)


@pytest.mark.parametrize("name", sorted(AXES))
def test_sources_in_any_order_are_refused_when_the_grid_disagrees(sources, tmp_path, name) -> None:
    image = sources.volume(tmp_path, rotation=AXES[name])
    turned = Image(image.pixels, image.grid, image.modality, image.sources[::-1], is_volume=True)
    findings = sources.findings(turned, sources.found(some_mask(turned)))
    with pytest.raises(GridMismatchError, match="ImagePositionPatient"):
        build_segmentation(findings, turned, IDENTIFIERS)


@pytest.mark.parametrize("overlap", [False, True])
def test_segments_carry_their_targets(sources, second_reader, tmp_path, overlap) -> None:
    image = sources.volume(tmp_path)
    first, second = np.zeros((2, *image.grid.shape), dtype=bool)
    first[1:3, 1:4, 1:3] = True
    second[2:, 3 if overlap else 4 :, 1:] = True
    kidney = sources.target("left kidney", "64033007", 1, laterality=Code("7771000", "SCT", "Left"))
    tumour = sources.target(
        "breast tumour",
        "108369006",
        2,
        category=Code("49755003", "SCT", "Morphologically Abnormal Structure"),
        region=Code("76752008", "SCT", "Breast"),
        laterality=Code("24028007", "SCT", "Right"),
    )
    findings = sources.findings(
        image,
        sources.absent(),
        sources.found(first, kidney),
        sources.unresolved(),
        sources.found(second, tumour, status=FindingStatus.UNCERTAIN, presence=0.5),
    )
    segmentation = build_segmentation(findings, image, IDENTIFIERS)
    segmentation.save_as(tmp_path / "seg.dcm")
    assert segmentation.SegmentsOverlap == ("YES" if overlap else "NO")
    assert segmentation.ContentQualification == "RESEARCH"
    assert segmentation.SegmentationType == "BINARY"
    left, uncertain = segmentation.SegmentSequence
    assert (left.SegmentNumber, left.SegmentLabel) == (1, "left kidney")
    kind = left.SegmentedPropertyTypeCodeSequence[0]
    assert kind.CodeValue == "64033007"
    assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeValue == "7771000"
    assert left.TrackingUID == IDENTIFIERS.tracking_uid(1)
    assert left.SegmentAlgorithmType == "AUTOMATIC"
    family = left.SegmentationAlgorithmIdentificationSequence[0]
    assert family.AlgorithmFamilyCodeSequence[0].CodeValue == "123110"
    assert (family.AlgorithmName, family.AlgorithmVersion) == ("RCMed small", "1.0.0")
    assert len(left.RecommendedDisplayCIELabValue) == 3
    region = uncertain.AnatomicRegionSequence[0]
    assert region.CodeValue == "76752008"
    assert region.AnatomicRegionModifierSequence[0].CodeValue == "24028007"
    assert "uncertain" in uncertain.SegmentDescription
    for number, mask in ((1, first), (2, second)):
        points = second_reader.points(tmp_path / "seg.dcm", number)
        np.testing.assert_allclose(in_order(points), in_order(points_of(image.grid, mask)), atol=1e-3)


def test_every_source_image_is_referenced(sources, tmp_path) -> None:
    image = sources.volume(tmp_path)
    mask = np.zeros(image.grid.shape, dtype=bool)
    mask[2, 3, 3] = True
    segmentation = build_segmentation(sources.findings(image, sources.found(mask)), image, IDENTIFIERS)
    assert segmentation.NumberOfFrames == 1
    listed = segmentation.ReferencedSeriesSequence[0]
    assert listed.SeriesInstanceUID == image.series_instance_uid
    uids = [item.ReferencedSOPInstanceUID for item in listed.ReferencedInstanceSequence]
    assert uids == [reference.sop_instance_uid for reference in image.sources]


@pytest.mark.parametrize(("first", "end"), [(0, 1), (2, 3), (3, 4), (1, 3), (0, 4)])
def test_slices_without_a_segment_are_left_out_and_nothing_else_changes(
    sources, second_reader, tmp_path, first: int, end: int
) -> None:
    image = sources.volume(tmp_path, shape=(4, 6, 7))
    mask = np.zeros(image.grid.shape, dtype=bool)
    mask[first:end, 2:4, 1:5] = True
    segmentation = build_segmentation(sources.findings(image, sources.found(mask)), image, IDENTIFIERS)
    segmentation.save_as(path := tmp_path / "seg", enforce_file_format=True)
    assert int(segmentation.NumberOfFrames) == end - first
    measures = segmentation.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert float(measures.SpacingBetweenSlices) == pytest.approx(image.grid.spacing[0])
    expected = in_order(points_of(image.grid, mask))
    np.testing.assert_allclose(in_order(second_reader.points(path, 1)), expected, atol=1e-3)
    assert {uid for uid, _ in second_reader.by_reference(path, 1)} == {
        source.sop_instance_uid for source in image.sources[first:end]
    }


def test_nothing_found_makes_no_segmentation(sources, tmp_path) -> None:
    image = sources.volume(tmp_path)
    findings = sources.findings(image, sources.absent(), sources.unresolved())
    assert build_segmentation(findings, image, IDENTIFIERS) is None


def test_same_job_gives_same_uids(sources, tmp_path) -> None:
    image = sources.volume(tmp_path)
    findings = sources.findings(image, sources.found(some_mask(image)))
    first, again = (build_segmentation(findings, image, ResultIdentifiers.derive("job")) for _ in range(2))
    other = build_segmentation(findings, image, ResultIdentifiers.derive("another job"))
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        assert first[keyword].value == again[keyword].value != other[keyword].value
    assert first.SegmentSequence[0].TrackingUID == again.SegmentSequence[0].TrackingUID
    assert first.StudyInstanceUID == image.sources[0].study_instance_uid
    assert len(str(first.SOPInstanceUID)) <= 64


def test_an_image_without_sources_is_refused(sources) -> None:
    grid = Grid.without_geometry(4, 4)
    image = Image(np.zeros((1, 4, 4), np.uint8), grid, next(iter(sources.target().modalities)))
    with pytest.raises(InputError, match="no source instances"):
        build_segmentation(sources.findings(image, sources.found(some_mask(image))), image, IDENTIFIERS)
