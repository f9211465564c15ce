"""Volumes that are known not to show a target: slices turned as a radiologist sees them, to learn absence from."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from rcmed.data.controls import HealthyControl
from rcmed.errors import InputError
from rcmed.modality import Modality
from rcmed.training.batches.packed import pack_control
from rcmed.training.batches.sampler import BalancedSampler
from rcmed.training.settings import TrainingSettings

ABSENT = ("brain tumor", "multiple sclerosis lesion")


def control(path: Path) -> HealthyControl:
    return HealthyControl(volume=path, dataset="volunteer", modality=Modality.MR, absent=ABSENT)


def write_head(path: Path, axes: tuple[int, int, int], flips: tuple[bool, bool, bool], spacing: float = 1.0) -> None:
    """A head of 40 x 50 x 60 mm whose left front top corner is bright, stored with any order and direction of axes."""
    voxels = np.full((40, 50, round(60 / spacing)), 90, dtype=np.uint8)  # RAS
    voxels[:14, 36:, -round(20 / spacing) :] = 250
    affine = np.diag([1.0, 1.0, spacing, 1.0])
    orientation = np.array([[axis, -1 if flip else 1] for axis, flip in zip(axes, flips, strict=True)])
    nibabel.save(nibabel.Nifti1Image(voxels, affine).as_reoriented(orientation), path)


@settings(max_examples=20)
@given(axes=st.permutations([0, 1, 2]), flips=st.tuples(st.booleans(), st.booleans(), st.booleans()))
def test_slices_are_turned_as_a_radiologist_sees_them(
    tmp_path_factory: pytest.TempPathFactory, axes: list[int], flips: tuple[bool, bool, bool]
) -> None:
    path = tmp_path_factory.mktemp("head") / "head.nii.gz"
    write_head(path, (axes[0], axes[1], axes[2]), flips)
    by_shape: dict[tuple[int, ...], np.ndarray] = {}
    for each in control(path).read_slices():
        if each.max() > 200:
            by_shape[each.shape[:2]] = each[..., 0] > 200
    axial, coronal, sagittal = by_shape[50, 40], by_shape[60, 40], by_shape[60, 50]
    assert axial[:14, -14:].all() and axial.sum() == 14 * 14, "front at the top, the patient's left at the right"
    assert coronal[:20, -14:].all() and coronal.sum() == 20 * 14, "head at the top"
    assert sagittal[:20, :14].all() and sagittal.sum() == 20 * 14, "front at the left"


def test_planes_with_oblong_pixels_are_left_out(tmp_path: Path) -> None:
    write_head(tmp_path / "thick.nii.gz", (0, 1, 2), (False, False, False), spacing=4.0)
    slices = control(tmp_path / "thick.nii.gz").read_slices()
    assert {each.shape for each in slices} == {(50, 40, 3)} and len(slices) == 15


def test_only_what_is_absent_is_asked_of_a_control(tmp_path: Path) -> None:
    write_head(tmp_path / "head.nii.gz", (0, 1, 2), (False, False, False))
    packed = pack_control(control(tmp_path / "head.nii.gz"), 64)
    assert packed[0].pixels.shape == (3, 64, 64)
    sampler = BalancedSampler(packed, TrainingSettings(prompts_per_image=3))
    drawn = sampler.draw(np.random.default_rng(0), absent_rate=0.5)
    assert len(drawn) == TrainingSettings().batch_images
    assert all(sorted(prompts) == [(name, False) for name in sorted(ABSENT)] for _, prompts in drawn)


def test_a_picture_is_no_control(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.nii\.gz"):
        control(tmp_path / "none.nii.gz").read_slices()
    with pytest.raises(ValidationError, match="absent"):
        HealthyControl(volume=tmp_path / "a.nii.gz", dataset="x", modality=Modality.MR, absent=())
