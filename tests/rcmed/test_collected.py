"""Collected corrections: what a slice teaches, what is refused, and label maps whose axes run otherwise."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import permutations, product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as PillowImage

from rcmed.data.collected import (
    MOST_SLICES,
    Correction,
    list_corrections,
    patient_bucket,
    read_slices,
    write_correction,
)
from rcmed.errors import GridMismatchError
from rcmed.modality import Modality
from rcmed.readers import read_images
from rcmed.readers.label_maps import read_label_map
from rcmed.training.batches.packed import pack_collected

SHAPE = (6, 12, 10)
START = datetime(2025, 1, 1, tzinfo=UTC)


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A CT of six slices whose voxels run to the left, to the back and to the head."""
    voxels = np.random.default_rng(0).integers(-500, 500, SHAPE[::-1]).astype(np.int16)
    file = nib.Nifti1Image(voxels, np.diag([-1.0, -1.0, 3.0, 1.0]))
    file.set_sform(file.affine, "scanner")
    nib.save(file, tmp_path / "ct--one.nii.gz")
    return tmp_path / "ct--one.nii.gz"


def mask_on(slices: list[int], shape: tuple[int, int, int] = SHAPE) -> NDArray[np.bool_]:
    mask = np.zeros(shape, dtype=bool)
    mask[slices, 2:5, 3:9] = True
    return mask


def write(folder: Path, image: Path, masks: Mapping[str, NDArray[np.bool_]], **more: Any) -> Correction:
    facts = {"modality": Modality.CT, "image_id": "one", "patient": "p", "user": "anna", "time": START} | more
    return write_correction(folder, image, masks, **facts)


def test_slices_without_any_mask_teach_nothing_and_overlaps_survive(volume: Path, tmp_path: Path) -> None:
    masks = {"liver": mask_on([1, 2]), "liver tumor": mask_on([2, 3])}
    write(tmp_path / "collected", volume, masks)
    (correction,), refused = list_corrections(tmp_path / "collected")
    slices, lines = read_slices([correction])
    assert not refused and not lines
    assert [sorted(each.masks) for each in slices] == [["liver"], ["liver", "liver tumor"], ["liver tumor"]]
    assert all(each.patient == "p" and each.user == "anna" and each.absent == () for each in slices)
    # Columns to the patient's left, rows to the back: as it is stored.
    assert np.array_equal(slices[1].masks["liver"], mask_on([2])[2])
    assert slices[0].pixels.shape == (*SHAPE[1:], 3)
    packed = pack_collected(slices[1], 64)
    assert (
        set(packed.masks) == {"liver", "liver tumor"} and packed.mask("liver").any() and packed.dataset == "collected"
    )


def test_what_is_said_to_be_absent_is_absent_everywhere(volume: Path, tmp_path: Path) -> None:
    write(tmp_path / "collected", volume, {"liver": mask_on([1])}, absent=["spleen"])
    slices, _ = read_slices(list_corrections(tmp_path / "collected")[0])
    assert len(slices) == SHAPE[0] and all(each.absent == ("spleen",) for each in slices)
    assert [bool(each.masks) for each in slices] == [False, True, False, False, False, False]


def test_of_a_long_volume_some_slices_are_taken(tmp_path: Path) -> None:
    voxels = np.zeros((8, 8, 100), dtype=np.int16)
    nib.save(nib.Nifti1Image(voxels, np.diag([-1.0, -1.0, 3.0, 1.0])), tmp_path / "ct--long.nii.gz")
    write(tmp_path / "collected", tmp_path / "ct--long.nii.gz", {"liver": np.ones((100, 8, 8), dtype=bool)})
    slices, _ = read_slices(list_corrections(tmp_path / "collected")[0])
    assert len(slices) == MOST_SLICES


def test_synonyms_count_and_unknown_names_are_refused_with_a_line(volume: Path, tmp_path: Path) -> None:
    masks = {"Hepar": mask_on([1]), "LIVER": mask_on([3]), "prompt 1": mask_on([1])}
    correction = write(tmp_path / "collected", volume, masks)
    slices, lines = read_slices(list_corrections(tmp_path / "collected")[0])
    assert {name for each in slices for name in each.masks} == {"liver"}
    assert any(str(correction.folder) in line and "prompt 1" in line and "rename" in line for line in lines)


def test_a_later_submission_of_an_image_and_target_replaces_the_earlier(volume: Path, tmp_path: Path) -> None:
    write(tmp_path / "collected", volume, {"liver": mask_on([1]), "spleen": mask_on([4])})
    later = START + timedelta(hours=1)
    write(tmp_path / "collected", volume, {"liver": mask_on([2])}, time=later)
    write(tmp_path / "collected", volume, {"liver": mask_on([2])}, time=later)
    corrections, _ = list_corrections(tmp_path / "collected")
    assert len(corrections) == 2, "the same is not kept twice"
    slices, _ = read_slices(corrections)
    drawn = [(each.correction, *each.masks) for each in slices]
    assert drawn == [(corrections[0].identifier, "spleen"), (corrections[1].identifier, "liver")]


def test_a_broken_correction_is_told_and_the_others_are_read(volume: Path, tmp_path: Path) -> None:
    collected = tmp_path / "collected"
    write(collected, volume, {"liver": mask_on([1])})
    broken = {"not JSON": "{", "outside": json.dumps({"image": "../../secret.png"})}
    for name, text in broken.items():
        (collected / name).mkdir()
        (collected / name / "correction.json").write_text(text)
    corrections, refused = list_corrections(collected)
    assert len(corrections) == 1 and len(refused) == 2
    assert all(any(str(collected / name) in line for line in refused) for name in broken)
    (corrections[0].folder / "mask-1.nii.gz").write_bytes(b"nothing")
    slices, lines = read_slices(corrections)
    assert not slices and len(lines) == 1 and "mask-1.nii.gz" in lines[0]


def test_masks_lie_on_the_images_grid_or_are_refused(volume: Path, tmp_path: Path) -> None:
    with pytest.raises(GridMismatchError):
        write(tmp_path / "collected", volume, {"liver": mask_on([1], (6, 12, 11))})
    assert list_corrections(tmp_path / "collected") == ([], []), "nothing is half written"


@settings(max_examples=30, deadline=None)
@given(axes=st.sampled_from(list(permutations(range(3)))), signs=st.sampled_from(list(product((1, -1), repeat=3))))
def test_a_label_map_may_store_the_same_voxels_in_any_order(
    axes: tuple[int, int, int], signs: tuple[int, int, int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("orders")
    generator = np.random.default_rng(3)
    affine = np.diag([-1.0, -2.0, 3.0, 1.0])
    affine[:3, 3] = 5, -7, 11
    labels = generator.integers(0, 4, (5, 6, 7)).astype(np.uint8)
    image = nib.Nifti1Image(np.zeros(labels.shape, dtype=np.int16), affine)
    image.set_sform(affine, "scanner")
    nib.save(image, folder / "ct--image.nii.gz")
    # The same voxels, stored along other axes and in other directions.
    steps = tuple(slice(None, None, sign) for sign in signs)
    stored = np.transpose(labels, axes)[steps]
    turn = np.zeros((4, 4))
    turn[3, 3] = 1
    for new, (old, sign) in enumerate(zip(axes, signs, strict=True)):
        turn[old, new] = sign
        turn[old, 3] = labels.shape[old] - 1 if sign < 0 else 0
    file = nib.Nifti1Image(np.ascontiguousarray(stored), affine @ turn)
    file.set_sform(affine @ turn, "scanner")
    nib.save(file, folder / "labels.nii.gz")
    read = read_images(folder / "ct--image.nii.gz")[0]
    values = read_label_map(folder / "labels.nii.gz", read)
    assert np.array_equal(values, np.transpose(labels, read.file_axes))
    moved = nib.Nifti1Image(np.ascontiguousarray(stored), affine @ turn)
    shifted = affine @ turn
    shifted[0, 3] += 0.5
    moved.set_sform(shifted, "scanner")
    nib.save(moved, folder / "moved.nii.gz")
    with pytest.raises(GridMismatchError, match=r"moved\.nii\.gz"):
        read_label_map(folder / "moved.nii.gz", read)


def test_a_picture_with_a_label_map_of_values(tmp_path: Path) -> None:
    PillowImage.fromarray(np.zeros((9, 7, 3), dtype=np.uint8)).save(tmp_path / "fundus--a.png")
    labels = np.zeros((9, 7), dtype=np.uint8)
    labels[:3], labels[5:] = 1, 3
    folder = tmp_path / "collected" / "one"
    folder.mkdir(parents=True)
    PillowImage.fromarray(labels).save(folder / "labels.png")
    (tmp_path / "fundus--a.png").rename(folder / "image.png")
    told = {
        "image": "image.png",
        "image_id": "a",
        "modality": "fundus",
        "patient": "a",
        "masks": [{"file": "labels.png", "names": {"1": "optic disc", "2": "hard exudate", "3": "retinal vessel"}}],
        "time": START.isoformat(),
    }
    (folder / "correction.json").write_text(json.dumps(told))
    (only,), lines = read_slices(list_corrections(tmp_path / "collected")[0])
    assert {name: int(mask.sum()) for name, mask in only.masks.items()} == {"optic disc": 21, "retinal vessel": 28}
    assert len(lines) == 1 and "hard exudate" in lines[0] and "absent" in lines[0]


def test_a_patient_is_held_out_by_the_name_alone() -> None:
    buckets = [patient_bucket(f"patient {number}") for number in range(2000)]
    assert min(buckets) == 0 and max(buckets) == 99
    assert abs(sum(bucket < 30 for bucket in buckets) / 2000 - 0.3) < 0.04
    assert patient_bucket("patient 7") == buckets[7]
