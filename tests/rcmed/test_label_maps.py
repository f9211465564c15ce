"""Masks and label maps lie on their image's voxels by place, or are refused; never by shape alone."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as PillowImage

from rcmed.errors import GridMismatchError, InputError
from rcmed.examples import read_examples
from rcmed.image import Grid, Image
from rcmed.modality import Modality
from rcmed.readers import read_images, write_mask
from rcmed.readers.label_maps import read_label_map, read_mask

AFFINE = np.array([[-1.5, 0, 0, 48], [0, -1.5, 0, 40], [0, 0, 5, -20], [0, 0, 0, 1.0]])
LABELS = np.random.default_rng(3).integers(0, 4, (6, 7, 5)).astype(np.uint8)


def saved(path: Path, voxels: NDArray[Any], affine: NDArray[np.float64], code: int = 1) -> Path:
    file = nib.Nifti1Image(voxels, affine)
    file.set_sform(affine if code else None, code)
    file.set_qform(affine if code else None, code)
    nib.save(file, path)
    return path


def image_of(path: Path, code: int = 1) -> Image:
    return read_images(saved(path, np.zeros(LABELS.shape, np.int16), AFFINE, code), Modality.CT)[0]


def restored(axes: tuple[int, ...], signs: tuple[int, ...]) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The same labels at the same places, stored along other axes and in other directions."""
    turn = np.zeros((4, 4))
    turn[3, 3] = 1
    for new, (old, sign) in enumerate(zip(axes, signs, strict=True)):
        turn[old, new] = sign
        turn[old, 3] = LABELS.shape[old] - 1 if sign < 0 else 0
    stored = np.transpose(LABELS, axes)[tuple(slice(None, None, sign) for sign in signs)]
    return np.ascontiguousarray(stored), AFFINE @ turn


@settings(max_examples=20, deadline=None)
@given(axes=st.sampled_from(list(permutations(range(3)))), signs=st.sampled_from(list(product((1, -1), repeat=3))))
def test_an_example_is_turned_to_its_image(
    axes: tuple[int, int, int], signs: tuple[int, int, int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("examples")
    for part in ("images", "masks"):
        (folder / part).mkdir()
    image_of(folder / "images" / "x.nii.gz")
    voxels, affine = restored(axes, signs)
    saved(folder / "masks" / "x.nii.gz", voxels, affine)
    (image,), (mask,) = read_examples(folder, Modality.CT)
    assert np.array_equal(mask, np.transpose(LABELS, image.file_axes) > 0)


def test_an_example_elsewhere_is_refused(tmp_path: Path) -> None:
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    image_of(tmp_path / "images" / "x.nii.gz")
    elsewhere = AFFINE.copy()
    elsewhere[0, 3] += 4.5
    saved(tmp_path / "masks" / "x.nii.gz", np.ones(LABELS.shape, np.uint8), elsewhere)
    with pytest.raises(GridMismatchError, match=r"masks/x\.nii\.gz"):
        read_examples(tmp_path, Modality.CT)


@pytest.mark.parametrize("share", [0.1, 0.4])
def test_places_are_taken_as_one_up_to_a_quarter_of_a_voxel(tmp_path: Path, share: float) -> None:
    image = image_of(tmp_path / "x.nii.gz")
    near = AFFINE.copy()
    near[1, 3] += share * 1.5
    path = saved(tmp_path / "l.nii.gz", LABELS, near)
    if share < 0.25:
        assert np.array_equal(read_label_map(path, image), np.transpose(LABELS, image.file_axes))
    else:
        with pytest.raises(GridMismatchError):
            read_label_map(path, image)


def test_where_neither_says_a_place_the_order_in_the_file_counts(tmp_path: Path) -> None:
    image = image_of(tmp_path / "x.nii.gz", code=0)
    write_mask(np.transpose(LABELS > 1, image.file_axes), image, tmp_path / "mask.nii.gz")
    assert np.array_equal(read_mask(tmp_path / "mask.nii.gz", image), np.transpose(LABELS > 1, image.file_axes))
    # A program that reads codes of 0 as ITK does, and then says a place.
    label = sitk.GetImageFromArray(np.transpose(LABELS))
    label.SetSpacing((1.5, 1.5, 5.0))
    sitk.WriteImage(label, str(tmp_path / "l.nii.gz"))
    assert np.array_equal(read_label_map(tmp_path / "l.nii.gz", image), np.transpose(LABELS, image.file_axes))


def test_a_label_without_a_place_for_an_image_with_one_is_refused(tmp_path: Path) -> None:
    image = image_of(tmp_path / "x.nii.gz")
    with pytest.raises(GridMismatchError, match=r"l\.nii\.gz: does not say where its voxels lie.*code 0"):
        read_label_map(saved(tmp_path / "l.nii.gz", LABELS, AFFINE, code=0), image)


def test_a_picture_may_label_a_single_slice(tmp_path: Path) -> None:
    grid = Grid((1, 6, 7), np.diag([5.0, 1.0, 1.0, 1.0])[[2, 1, 0, 3]])
    image = Image(np.zeros(grid.shape, np.int16), grid, Modality.CT)
    drawn = LABELS[:, :, 0] > 1
    PillowImage.fromarray(drawn.astype(np.uint8) * 255).save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png", image)[0], drawn)
    with pytest.raises(GridMismatchError):
        PillowImage.fromarray(drawn.T.astype(np.uint8)).save(tmp_path / "t.png")
        read_mask(tmp_path / "t.png", image)


def test_values_that_were_stored_scaled_are_whole_again_and_fractions_are_refused(tmp_path: Path) -> None:
    image = image_of(tmp_path / "x.nii.gz")
    scaled = LABELS.astype(np.float32) * np.float32(0.99999)
    label = read_label_map(saved(tmp_path / "l.nii.gz", scaled, AFFINE), image)
    assert np.array_equal(label, np.transpose(LABELS, image.file_axes))
    for values, reason in ((LABELS * np.float32(0.3), "fractions"), (-LABELS.astype(np.int16), "negative")):
        with pytest.raises(InputError, match=rf"f\.nii\.gz: .*{reason}"):
            read_label_map(saved(tmp_path / "f.nii.gz", values, AFFINE), image)
