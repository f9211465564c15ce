"""Contours filled again are the mask, on every geometry, with holes, islands in holes, and parts that touch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian
from scipy.spatial.transform import Rotation
from skimage.draw import polygon2mask

from dicom_bridge.results.contours import outlines
from dicom_bridge.results.filing import file_results
from dicom_bridge.results.identifiers import ResultIdentifiers
from dicom_bridge.results.kinds import ResultKind
from dicom_bridge.results.segmentations.segmentation import build_segmentation
from dicom_bridge.results.structure_set import build_structure_set
from rcmed.errors import InputError
from rcmed.image import Grid

MASKS = arrays(np.bool_, st.tuples(st.integers(1, 16), st.integers(1, 16)))
IDENTIFIERS = ResultIdentifiers.derive("job")


def filled(polygons: list[NDArray[np.float64]], shape: tuple[int, int], exclusive: bool) -> NDArray[np.bool_]:
    """A reader that knows nothing of holes: polygons are united, or taken by exclusive or."""
    mask = np.zeros(shape, dtype=bool)
    for polygon in polygons:
        one = polygon2mask(shape, polygon)
        mask = mask ^ one if exclusive else mask | one
    return mask


@given(MASKS)
@settings(max_examples=200, deadline=None)
@pytest.mark.slow
def test_outlines_filled_are_the_mask(mask: NDArray[np.bool_]) -> None:
    polygons = list(outlines(mask))
    for exclusive in (False, True):
        assert (filled(polygons, mask.shape, exclusive) == mask).all()


def test_an_outline_runs_between_the_pixels() -> None:
    mask = np.zeros((5, 6), dtype=bool)
    mask[1:3, 2:5] = True
    (polygon,) = outlines(mask)
    assert polygon.min(axis=0).tolist() == [0.5, 1.5]
    assert polygon.max(axis=0).tolist() == [2.5, 4.5]


def test_a_ring_is_one_polygon_with_a_keyhole() -> None:
    mask = np.ones((9, 9), dtype=bool)
    mask[2:4, 2:4] = mask[6, 6] = False
    mask[4, 4] = False
    (polygon,) = outlines(mask)
    assert (polygon2mask(mask.shape, polygon) == mask).all()
    assert len(np.unique(polygon, axis=0)) < len(polygon)


def pixels_of(structures: Dataset, number: int, grid: Grid) -> NDArray[np.bool_]:
    """A second reader: contour points to voxel indices by the grid's affine, filled slice by slice."""
    mask = np.zeros(grid.shape, dtype=bool)
    inverse = np.linalg.inv(grid.affine)
    for contour in structures.ROIContourSequence[number].ContourSequence:
        assert contour.ContourGeometricType == "CLOSED_PLANAR"
        points = np.array([float(value) for value in contour.ContourData]).reshape(-1, 3)
        assert len(points) == contour.NumberOfContourPoints
        indices = points @ inverse[:3, :3].T + inverse[:3, 3]
        place = int(np.round(indices[0, 0]))
        assert np.abs(indices[:, 0] - place).max() < 0.01
        mask[place] |= polygon2mask(grid.shape[1:], indices[:, 1:])
    return mask


@given(
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    spacing=st.tuples(st.floats(0.3, 3), st.floats(0.3, 3)),
    reverse=st.booleans(),
    seed=st.integers(0, 1000),
)
@settings(max_examples=15, deadline=None)
@pytest.mark.slow
def test_a_structure_set_holds_the_mask_where_it_is_in_the_patient(
    sources: Any,
    tmp_path_factory: pytest.TempPathFactory,
    angles: tuple[float, float, float],
    spacing: tuple[float, float],
    reverse: bool,
    seed: int,
) -> None:
    rotation = Rotation.from_euler("zyx", angles, degrees=True).as_matrix()
    folder = tmp_path_factory.mktemp("source")
    image = sources.volume(folder, shape=(3, 14, 11), spacing=spacing, rotation=rotation, reverse=reverse)
    mask = np.random.default_rng(seed).random(image.grid.shape) > 0.4
    structures = build_structure_set(sources.findings(image, sources.found(mask)), image, IDENTIFIERS)
    assert structures is not None
    assert (pixels_of(structures, 0, image.grid) == mask).all()


def test_each_contour_refers_to_the_frame_that_it_lies_in(sources: Any, tmp_path: Path) -> None:
    image = sources.enhanced(tmp_path, frames=(3, 1, 4, 2))
    mask = np.zeros(image.grid.shape, dtype=bool)
    mask[1:3, 1:4, 2:4] = True
    findings = sources.findings(image, sources.found(mask))
    structures, segmentation = (
        build(findings, image, IDENTIFIERS) for build in (build_structure_set, build_segmentation)
    )
    contours = structures.ROIContourSequence[0].ContourSequence
    assert [contour.ContourImageSequence[0].ReferencedFrameNumber for contour in contours] == [1, 4]
    assert (pixels_of(structures, 0, image.grid) == mask).all()
    assert structures.FrameOfReferenceUID == segmentation.FrameOfReferenceUID
    assert structures.StructureSetROISequence[0].ROIName == segmentation.SegmentSequence[0].SegmentLabel


@pytest.mark.slow
def test_a_long_contour_is_written_whole(sources: Any, tmp_path: Path) -> None:
    """An explicit transfer syntax has 16 bits for the length of a value; a comb's outline is longer."""
    image = sources.volume(tmp_path, shape=(1, 120, 120))
    mask = np.zeros(image.grid.shape, dtype=bool)
    mask[0, ::2] = mask[0, :, 60] = True
    mask[0, 1::2, 61:] = np.arange(59) % 2 == 0
    filed = file_results(
        image, sources.findings(image, sources.found(mask)), IDENTIFIERS, tmp_path / "out", [ResultKind.RTSTRUCT]
    )
    structures = dcmread(filed.files[0])
    assert structures.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    assert (pixels_of(structures, 0, image.grid) == mask).all()


def test_without_a_place_in_the_patient_there_are_no_contours(sources: Any, tmp_path: Path) -> None:
    image = sources.planar(tmp_path)
    mask = np.ones(image.grid.shape, dtype=bool)
    with pytest.raises(InputError, match=r"image.dcm.*\(0020,0052\)"):
        build_structure_set(sources.findings(image, sources.found(mask)), image, IDENTIFIERS)
