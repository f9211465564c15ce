"""Label maps that viewers submit, onto the grid of their image."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from monailabel_app.datastores.label_files import read_label
from monailabel_app.datastores.label_names import names_of_values
from rcmed.errors import GridMismatchError, InputError
from rcmed.image import Grid, Image
from rcmed.modality import Modality
from rcmed.readers.alignment import bring_onto

SHAPE = (4, 6, 5)


def info(*names: str, indices: list[int] | None = None) -> dict[str, Any]:
    return {
        "label_info": [
            {"name": name, "idx": index} for name, index in zip(names, indices or range(1, len(names) + 1), strict=True)
        ]
    }


def grid_of(rotation: NDArray[np.float64] | None = None, shape: tuple[int, int, int] = SHAPE) -> Grid:
    axes = np.eye(3) if rotation is None else rotation
    affine = np.eye(4)
    affine[:3, :3] = axes[:, [2, 1, 0]] * np.array([2.5, 0.8, 0.7])
    affine[:3, 3] = [-12.5, 30.25, 7.0]
    return Grid(shape, affine)


def image_on(grid: Grid) -> Image:
    return Image(np.zeros(grid.shape, np.int16), grid, Modality.CT, is_volume=True)


def some_labels(shape: tuple[int, ...] = SHAPE, seed: int = 0) -> NDArray[np.uint8]:
    labels = np.random.default_rng(seed).integers(0, 4, shape).astype(np.uint8)
    labels.flat[0] = 1
    return labels


# which value has which name


@pytest.mark.parametrize(
    ("values", "told", "expected"),
    [
        # Stock MONAI Label calls value 3 "spleen": the second value that occurs gets the second name.
        ([1, 3], info("liver", "spleen", "tumour"), {1: "liver", 3: "tumour"}),
        ([2], info("liver", "spleen", "tumour"), {2: "spleen"}),
        ([1, 3], info("liver", "tumour", indices=[1, 3]), {1: "liver", 3: "tumour"}),
        # Slicer counts scribbles, which it does not send, in `idx` but not in the values.
        ([1, 2], info("liver", "tumour", indices=[2, 4]), {1: "liver", 2: "tumour"}),
        ([1, 2], {"params": {"label_names": {"liver": 2, "spleen": 1}}}, {1: "spleen", 2: "liver"}),
        # What our own tasks say of their values wins over the list, which has no place for slots left out.
        (
            [2],
            {"params": {"label_names": {"liver": 2, "spleen": 3}}, **info("liver", "spleen", indices=[2, 3])},
            {2: "liver"},
        ),
        ([4], {}, {4: "Segment 4"}),
        ([], info("liver"), {}),
        ([1], info(" left \n kidney "), {1: "left kidney"}),
    ],
)
def test_names_of_values(values: list[int], told: dict[str, Any], expected: dict[int, str]) -> None:
    assert names_of_values(values, told) == expected


@pytest.mark.parametrize(
    ("values", "told", "reason"),
    [
        ([4], info("liver", "spleen"), "value 4"),
        ([1], info(""), "no name"),
        ([1], info("x" * 65), "65 characters"),
        ([1], {"label_info": "liver"}, "list of objects"),
        ([1], {"label_info": [{"idx": 1}]}, "no name"),
        ([3], {"params": {"label_names": {"liver": "many"}}}, "whole number"),
        ([3], {"params": {"label_names": {"liver": 1}}}, "value 3"),
    ],
)
def test_values_without_a_name_are_refused(values: list[int], told: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        names_of_values(values, told)


# where the voxels are


@settings(max_examples=60, deadline=None)
@given(
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    axes=st.permutations(range(3)),
    signs=st.tuples(*[st.sampled_from([-1, 1])] * 3),
    seed=st.integers(0, 100),
)
def test_axes_may_be_swapped_and_turned(
    angles: tuple[float, float, float], axes: list[int], signs: tuple[int, int, int], seed: int
) -> None:
    """Whatever the order and direction of a file's axes, each voxel stays at its place in the patient."""
    grid = grid_of(Rotation.from_euler("zyx", angles, degrees=True).as_matrix())
    labels = some_labels(seed=seed)
    flips = tuple(slice(None, None, sign) for sign in signs)
    turned = np.transpose(labels[flips], axes)
    affine = grid.affine.copy()
    for axis, sign in enumerate(signs):
        if sign < 0:
            affine[:3, 3] += affine[:3, axis] * (SHAPE[axis] - 1)
            affine[:3, axis] *= -1
    affine = affine[:, [*axes, 3]]
    np.testing.assert_array_equal(bring_onto(turned, affine, grid, "label"), labels)


@settings(max_examples=30, deadline=None)
@given(
    first=st.tuples(*[st.integers(0, 2)] * 3),
    length=st.tuples(*[st.integers(1, 2)] * 3),
    padding=st.tuples(*[st.integers(0, 2)] * 3),
)
def test_a_part_of_the_grid_fills_its_part(
    first: tuple[int, int, int], length: tuple[int, int, int], padding: tuple[int, int, int]
) -> None:
    """Slicer crops a .seg.nrrd to the segments, or pads it beyond the image."""
    grid = grid_of()
    part = np.zeros(np.array(length) + 2 * np.array(padding), np.uint8)
    part[tuple(slice(p, p + n) for p, n in zip(padding, length, strict=True))] = 2
    affine = grid.affine.copy()
    affine[:3, 3] = grid.to_patient(np.array(first, float) - padding)
    expected = np.zeros(SHAPE, np.uint8)
    expected[tuple(slice(f, f + n) for f, n in zip(first, length, strict=True))] = 2
    np.testing.assert_array_equal(bring_onto(part, affine, grid, "label"), expected)


def moved(grid: Grid, change: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(grid.affine @ change)


@pytest.mark.parametrize(
    "change",
    [
        np.diag([1.0, 2.0, 1.0, 1.0]),
        np.array([[1, 0, 0, 0.4], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]),
        np.array([[1, 0, 0, 0], [0, 1, 0, 3], [0, 0, 1, 0], [0, 0, 0, 1.0]]),
        np.array([[1, 0, 0, 0], [0, 0.9, 0.1, 0], [0, -0.1, 0.9, 0], [0, 0, 0, 1.0]]),
        np.array([[1, 0, 0, 900], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]),
    ],
    ids=["spacing", "half a slice off", "beyond the edge", "turned", "far away"],
)
def test_another_grid_is_refused(change: NDArray[np.float64]) -> None:
    grid = grid_of()
    with pytest.raises(GridMismatchError, match="draw it on the image"):
        bring_onto(np.ones(SHAPE, np.uint8), moved(grid, change), grid, "label")


def test_a_picture_has_only_columns_and_rows() -> None:
    """A viewer invents a place for it; its pixels are told by their order."""
    grid = Grid.without_geometry(6, 5)
    labels = some_labels((1, 6, 5))
    for affine in (None, np.diag([3.0, -3.0, 1.0, 1.0]) + np.array([[0, 0, 0, 7]] * 3 + [[0, 0, 0, 0]])):
        np.testing.assert_array_equal(bring_onto(np.transpose(labels), affine, grid, "label"), labels)
    with pytest.raises(GridMismatchError):
        bring_onto(labels, None, grid, "label")


# files


def masks_of(path: Path, image: Image, told: dict[str, Any]) -> dict[str, NDArray[np.bool_]]:
    return {segment.name: segment.mask for segment in read_label(path, image, told)}


@pytest.mark.parametrize("encoding", ["gzip", "raw"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_nrrd(as_nrrd: Any, encoding: str, dtype: type) -> None:
    labels, grid = some_labels(), grid_of()
    found = masks_of(
        as_nrrd(labels.astype(dtype), grid, encoding=encoding), image_on(grid), info("liver", "spleen", "odd")
    )
    assert list(found) == ["liver", "spleen", "odd"]
    for value, mask in enumerate(found.values(), start=1):
        np.testing.assert_array_equal(mask, labels == value)


def test_nrrd_in_other_spaces(as_nrrd: Any) -> None:
    """RAS is LPS with the first two axes turned."""
    labels, grid = some_labels(), grid_of()
    turn = np.diag([-1.0, -1.0, 1.0])
    header = {
        "space": "right-anterior-superior",
        "space directions": grid.affine[:3, [2, 1, 0]].T @ turn,
        "space origin": turn @ grid.affine[:3, 3],
    }
    found = masks_of(as_nrrd(labels, grid, **header), image_on(grid), info("a", "b", "c"))
    np.testing.assert_array_equal(found["b"], labels == 2)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("degrees", [0, 20])
def test_nifti(suffix: str, degrees: int, tmp_path: Path) -> None:
    grid = grid_of(Rotation.from_euler("zyx", (degrees, -degrees, 0), degrees=True).as_matrix())
    labels = some_labels()
    # First axis to the left, as Slicer writes it; NIfTI's coordinates are RAS.
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ grid.affine[:, [2, 1, 0, 3]]
    path = tmp_path / f"label{suffix}"
    nibabel.save(nibabel.Nifti1Image(np.transpose(labels), affine), path)
    found = masks_of(path, image_on(grid), info("a", "b", "c"))
    for value, mask in enumerate(found.values(), start=1):
        np.testing.assert_array_equal(mask, labels == value)


def test_a_file_that_names_its_segments_is_believed(as_nrrd: Any) -> None:
    grid = grid_of()
    labels = some_labels()
    header = {
        "Segment0_Name": "tumour",
        "Segment0_LabelValue": "3",
        "Segment1_Name": "liver",
        "Segment1_LabelValue": "1",
    }
    found = masks_of(as_nrrd(labels, grid, "label.seg.nrrd", **header), image_on(grid), info("wrong", "names"))
    assert list(found) == ["tumour", "liver"]
    np.testing.assert_array_equal(found["tumour"], labels == 3)


def test_files_that_are_no_label_map_are_refused(as_nrrd: Any, tmp_path: Path) -> None:
    grid = grid_of()
    image = image_on(grid)
    ones = np.ones(SHAPE, np.int16)
    bomb = as_nrrd(ones, grid, "bomb.nrrd", encoding="raw")
    content = bomb.read_bytes()
    header, _, _ = content.partition(b"\n\n")
    header = header.replace(b"encoding: raw", b"encoding: gzip")
    bomb.write_bytes(header + b"\n\n" + gzip.compress(b"\1\0" * 2**24))
    detached = tmp_path / "detached.nrrd"
    (tmp_path / "secret").write_bytes(b"\1\0" * ones.size)
    detached.write_bytes(content.partition(b"\n\n")[0] + b"\ndata file: secret\n\n")
    huge = tmp_path / "huge.nrrd"
    huge.write_bytes(header.replace(b"sizes: 5 6 4", b"sizes: 500000 600000 4") + b"\n\n")
    wide = grid_of(shape=(4, 5, 16))
    values = np.arange(320, dtype=np.int16).reshape(wide.shape)
    many = as_nrrd(np.where(values > 300, 0, values), wide, "many.nrrd")
    (tmp_path / "label.mhd").write_text("ElementDataFile = /etc/passwd")
    (tmp_path / "junk.nrrd").write_bytes(b"\0" * 100)
    for path, reason in [
        (as_nrrd(-ones, grid, "negative.nrrd"), "negative"),
        (as_nrrd(ones * np.float32(0.5), grid, "fractions.nrrd"), "whole numbers"),
        (bomb, "size that its header announces"),
        (detached, "in another file"),
        (huge, "above the limit"),
        (tmp_path / "label.mhd", "labels are taken as"),
        (tmp_path / "junk.nrrd", "can't be read as NRRD"),
        (many, "300 values"),
    ]:
        with pytest.raises(InputError, match=reason) as refused:
            read_label(path, image_on(wide) if path == many else image, info("liver"))
        assert "\n" not in str(refused.value)
