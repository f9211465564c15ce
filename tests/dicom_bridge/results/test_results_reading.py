"""SEGs of other systems: fractional, label map, frames in any order, left out, turned, cropped, damaged."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pytest
from highdicom.seg import SegmentationTypeValues
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels import pack_bits
from pydicom.uid import RLELossless, generate_uid

from dicom_bridge.results.identifiers import ResultIdentifiers
from dicom_bridge.results.segmentations.reading import read_layers, read_segments
from dicom_bridge.results.segmentations.segmentation import build_segmentation
from rcmed.errors import GridMismatchError, InputError, UnreadableFileError
from rcmed.image import Image

IDENTIFIERS = ResultIdentifiers.derive("job")


@pytest.fixture
def image(sources: Any, tmp_path: Path) -> Image:
    # Slices run against the order of the files, so that an order that is taken for granted is found out.
    return sources.volume(tmp_path, shape=(4, 7, 5), reverse=True)


@pytest.fixture
def masks(image: Image) -> NDArray[np.bool_]:
    """Two that overlap, each empty in a slice."""
    masks = np.random.default_rng(5).random((2, *image.grid.shape)) < 0.4
    masks[0, 1] = masks[1, 3] = False
    masks[:, 0, 2, 2] = True
    return masks


def of_another_system(
    image: Image, pixels: NDArray[Any], kind: SegmentationTypeValues, numbers: int, **options: Any
) -> Dataset:
    """A SEG as highdicom writes it, without our builder."""
    code = highdicom.sr.CodedConcept("123037004", "SCT", "Anatomical Structure")
    descriptions = [
        highdicom.seg.SegmentDescription(
            number, f"organ {number}", code, highdicom.sr.CodedConcept("10200004", "SCT", "Liver"), "MANUAL"
        )
        for number in range(1, numbers + 1)
    ]
    return highdicom.seg.Segmentation(
        source_images=[dcmread(source.path) for source in image.sources],
        pixel_array=pixels,
        segmentation_type=kind,
        segment_descriptions=descriptions,
        series_instance_uid=generate_uid(),
        series_number=1,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="Another",
        manufacturer_model_name="Other",
        software_versions="1",
        device_serial_number="1",
        **options,
    )


def ours(sources: Any, image: Image, masks: NDArray[np.bool_]) -> Dataset:
    found = [sources.found(mask, sources.target(f"target {n}", str(n), n)) for n, mask in enumerate(masks)]
    segmentation = build_segmentation(sources.findings(image, *found), image, IDENTIFIERS)
    assert segmentation is not None
    return segmentation


def assert_masks(segmentation: Dataset | Path, image: Image, masks: NDArray[np.bool_]) -> None:
    segments = read_segments(segmentation, image)
    assert len(segments) == len(masks)
    for segment, mask in zip(segments, masks, strict=True):
        np.testing.assert_array_equal(segment.mask, mask)


def test_overlaps_take_a_layer_more(sources: Any, image: Image, masks: NDArray[np.bool_]) -> None:
    segmentation = ours(sources, image, masks)
    assert_masks(segmentation, image, masks)
    assert len(read_layers(segmentation, image).layers) == 2
    apart = np.stack([masks[0], ~masks[0], np.zeros_like(masks[0])])
    label = read_layers(ours(sources, image, apart[:2]), image)
    assert len(label.layers) == 1 and [segment.value for segment in label.segments] == [1, 2]


def test_fractional_counts_from_a_half(image: Image) -> None:
    values = np.random.default_rng(2).random((*image.grid.shape, 2)).astype(np.float32)
    segmentation = of_another_system(
        image, values, SegmentationTypeValues.FRACTIONAL, 2, max_fractional_value=100, fractional_type="PROBABILITY"
    )
    assert_masks(segmentation, image, np.moveaxis(np.round(values * 100) >= 50, -1, 0))


def test_a_label_map_keeps_its_numbers_and_its_slices(image: Image) -> None:
    """Stock MONAI Label makes a 2 of a 3, and turns the slices around."""
    labels = np.random.default_rng(3).choice(np.array([0, 1, 3], np.uint8), image.grid.shape)
    labels[2] = 0
    segmentation = of_another_system(image, labels, SegmentationTypeValues.LABELMAP, 3)
    segments = read_segments(segmentation, image)
    assert [segment.number for segment in segments] == [1, 2, 3]
    for segment in segments:
        np.testing.assert_array_equal(segment.mask, labels == segment.number)


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(6)))
@pytest.mark.slow
def test_frames_may_come_in_any_order(tmp_path_factory: Any, sources: Any, order: list[int]) -> None:
    folder = tmp_path_factory.mktemp("series")
    image = sources.volume(folder, shape=(4, 7, 5))
    masks = np.random.default_rng(9).random((2, *image.grid.shape)) < 0.4
    masks[0, 1] = masks[1, 3] = False
    masks[:, :, 0, 0] = masks.any((2, 3))
    segmentation = ours(sources, image, masks)
    frames = [segmentation.PerFrameFunctionalGroupsSequence[n] for n in order]
    pixels = segmentation.pixel_array
    assert len(pixels) == 6
    segmentation.PerFrameFunctionalGroupsSequence = frames
    segmentation.PixelData = pack_bits(pixels[list(order)])
    assert_masks(segmentation, image, masks)


def test_frames_without_references_lie_where_their_planes_are(
    sources: Any, image: Image, masks: NDArray[np.bool_]
) -> None:
    segmentation = ours(sources, image, masks)
    for group in segmentation.PerFrameFunctionalGroupsSequence:
        del group.DerivationImageSequence
    assert_masks(segmentation, image, masks)


def turned(segmentation: Dataset, rows: int, columns: int, image: Image) -> Dataset:
    """The same regions on frames that begin at another corner."""
    segmentation = copy.deepcopy(segmentation)
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    orientation = shared.PlaneOrientationSequence[0]
    cosines = np.array(orientation.ImageOrientationPatient, dtype=float)
    spacing = np.array(shared.PixelMeasuresSequence[0].PixelSpacing, dtype=float)
    pixels = segmentation.pixel_array
    for group in segmentation.PerFrameFunctionalGroupsSequence:
        del group.DerivationImageSequence
        position = np.array(group.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        if rows < 0:
            position = position + cosines[3:] * spacing[0] * (image.grid.shape[1] - 1)
        if columns < 0:
            position = position + cosines[:3] * spacing[1] * (image.grid.shape[2] - 1)
        # Anew for each frame: the frames of one slice share their item.
        group.PlanePositionSequence = highdicom.PlanePositionSequence("PATIENT", np.round(position, 6).tolist())
    orientation.ImageOrientationPatient = [*(cosines[:3] * columns), *(cosines[3:] * rows)]
    segmentation.PixelData = pack_bits(np.ascontiguousarray(pixels[:, ::rows, ::columns]))
    return segmentation


@pytest.mark.parametrize(("rows", "columns"), [(1, -1), (-1, 1), (-1, -1)])
def test_turned_frames_are_turned_back(
    sources: Any, image: Image, masks: NDArray[np.bool_], rows: int, columns: int
) -> None:
    assert_masks(turned(ours(sources, image, masks), rows, columns, image), image, masks)


def test_cropped_frames_fill_their_part_of_the_grid(sources: Any, image: Image) -> None:
    """Stock MONAI Label returns 3 of 6 slices."""
    masks = np.zeros((1, *image.grid.shape), dtype=bool)
    masks[0, 1:3, 2:5, 1:4] = np.random.default_rng(4).random((2, 3, 3)) < 0.7
    masks[0, 1:3, 2, 1] = True
    segmentation = ours(sources, image, masks)
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float)
    between_rows, between_columns = (float(x) for x in shared.PixelMeasuresSequence[0].PixelSpacing)
    pixels = segmentation.pixel_array[:, 2:5, 1:4]
    for group in segmentation.PerFrameFunctionalGroupsSequence:
        plane = group.PlanePositionSequence[0]
        moved = np.array(plane.ImagePositionPatient, dtype=float)
        moved += cosines[3:] * between_rows * 2 + cosines[:3] * between_columns
        plane.ImagePositionPatient = [round(float(x), 6) for x in moved]
    segmentation.Rows, segmentation.Columns = 3, 3
    segmentation.PixelData = pack_bits(np.ascontiguousarray(pixels))
    assert_masks(segmentation, image, masks)


def test_frames_that_share_their_segment_or_lie_in_shared_groups(sources: Any, image: Image) -> None:
    masks = np.zeros((1, *image.grid.shape), dtype=bool)
    masks[0, 2, 3, 3] = True
    segmentation = ours(sources, image, masks)
    (group,) = segmentation.PerFrameFunctionalGroupsSequence
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    for keyword in ("SegmentIdentificationSequence", "DerivationImageSequence", "PlanePositionSequence"):
        setattr(shared, keyword, group.pop(keyword).value) if keyword in group else None
    assert_masks(segmentation, image, masks)


def test_compressed_frames(image: Image) -> None:
    labels = np.random.default_rng(6).integers(0, 3, image.grid.shape).astype(np.uint8)
    segmentation = of_another_system(image, labels, SegmentationTypeValues.LABELMAP, 2, transfer_syntax_uid=RLELossless)
    assert_masks(segmentation, image, np.stack([labels == 1, labels == 2]))


def test_names_codes_and_colours_come_with_it(sources: Any, image: Image, masks: NDArray[np.bool_]) -> None:
    segmentation = ours(sources, image, masks)
    first, second = read_segments(segmentation, image)
    assert (first.label, first.type.value, first.category.scheme) == ("target 0", "0", "SCT")
    assert second.tracking_uid == segmentation.SegmentSequence[1].TrackingUID
    assert first.algorithm_type == "AUTOMATIC"
    np.testing.assert_allclose(first.colour, sources.target().colour, atol=2)


def test_a_spacing_of_its_own_is_refused(sources: Any, image: Image, masks: NDArray[np.bool_]) -> None:
    segmentation = ours(sources, image, masks)
    for group in segmentation.PerFrameFunctionalGroupsSequence:
        del group.DerivationImageSequence
    segmentation.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [1.6, 1.4]
    with pytest.raises(GridMismatchError, match="resample"):
        read_segments(segmentation, image)


def test_a_frame_that_lies_elsewhere_than_its_source_is_refused(
    sources: Any, image: Image, masks: NDArray[np.bool_]
) -> None:
    segmentation = ours(sources, image, masks)
    plane = segmentation.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0]
    x, y, z = (float(value) for value in plane.ImagePositionPatient)
    plane.ImagePositionPatient = [x, y, z - 5.0]
    with pytest.raises(GridMismatchError, match="lies elsewhere"):
        read_segments(segmentation, image)


def test_what_is_damaged_is_one_clear_line(
    sources: Any, image: Image, masks: NDArray[np.bool_], tmp_path: Path
) -> None:
    def spoiled(**changes: object) -> Dataset:
        segmentation = ours(sources, image, masks)
        for keyword, value in changes.items():
            if value is None:
                delattr(segmentation, keyword)
            else:
                setattr(segmentation, keyword, value)
        return segmentation

    whole = ours(sources, image, masks)
    for segmentation, kind, reason in [
        (spoiled(SOPClassUID="1.2.840.10008.5.1.4.1.1.2"), InputError, "no segmentation"),
        (spoiled(SegmentationType="ODD"), InputError, "SegmentationType"),
        (spoiled(SegmentSequence=[]), InputError, "describes no segment"),
        (spoiled(SegmentSequence=whole.SegmentSequence[:1]), InputError, "does not know"),
        (spoiled(PerFrameFunctionalGroupsSequence=None), InputError, "Functional Groups"),
        (spoiled(PixelData=whole.PixelData[:4]), UnreadableFileError, "ends before frame"),
        (spoiled(PixelData=None), UnreadableFileError, "Pixel Data"),
        (spoiled(Rows=None), UnreadableFileError, "Rows"),
    ]:
        with pytest.raises(kind, match=reason) as refused:
            read_segments(segmentation, image)
        assert "\n" not in str(refused.value)
    junk = tmp_path / "junk.dcm"
    junk.write_bytes(b"no DICOM")
    with pytest.raises(UnreadableFileError, match="junk.dcm"):
        read_segments(junk, image)
