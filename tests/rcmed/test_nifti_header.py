"""A mask says its place as its image does: wherever a program shows the image, it shows the mask."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rcmed.answers.writing import write_answer
from rcmed.errors import GeometryError
from rcmed.findings import Finding, Findings, FindingStatus, ModelIdentity
from rcmed.image import Image
from rcmed.modality import Modality
from rcmed.readers import mask_suffix, read_images, write_mask
from rcmed.vocabulary import target_named

SFORM = np.array([[-1.5, 0, 0, 30], [0, 1.5, 0, -40], [0, 0, 5, -20], [0, 0, 0, 1.0]])
QFORM = np.array([[1.5, 0, 0, -15], [0, 1.5, 0, -40], [0, 0, 5, -20], [0, 0, 0, 1.0]])
VOXELS = np.random.default_rng(0).integers(0, 900, (6, 7, 4)).astype(np.int16)
QFORM_FIELDS = ("qform_code", "pixdim", *(f"quatern_{axis}" for axis in "bcd"), *(f"qoffset_{axis}" for axis in "xyz"))
SFORM_FIELDS = ("sform_code", "srow_x", "srow_y", "srow_z", "xyzt_units")


def saved(path: Path, change: Callable[[Any], Any], voxels: NDArray[Any] = VOXELS, kind: Any = nib.Nifti1Image) -> Any:
    file = kind(voxels, SFORM)
    change(file)
    nib.save(file, path)
    return nib.load(path)


def answered(folder: Path, source: Path) -> tuple[Image, NDArray[np.bool_], Path]:
    """The image, a mask in it, and the file that the mask was written to."""
    (image,) = read_images(source, Modality.MR)
    mask = np.asarray(image.pixels > 450)
    path = folder / f"mask{mask_suffix(image)}"
    write_mask(mask, image, path)
    return image, mask, path


def forms(sform: int, qform: int, units: str = "mm") -> Callable[[Any], None]:
    def change(file: Any) -> None:
        file.set_sform(SFORM if sform else None, sform)
        file.set_qform(QFORM if qform else None, qform)
        file.header.set_xyzt_units(units, "sec")

    return change


@settings(max_examples=25, deadline=None)
@given(
    sform=st.integers(0, 5),
    qform=st.integers(0, 5),
    units=st.sampled_from(["mm", "micron", "meter", "unknown"]),
    kind=st.sampled_from([nib.Nifti1Image, nib.Nifti2Image]),
    endian=st.sampled_from("<>"),
)
def test_masks_say_their_place_as_the_image_does(
    sform: int, qform: int, units: str, kind: Any, endian: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("headers")
    header = kind.header_class(endianness=endian)
    file = kind(VOXELS, None, header)
    forms(sform, qform, units)(file)
    nib.save(file, folder / "mr--v.nii.gz")
    source = nib.load(folder / "mr--v.nii.gz")
    _, mask, path = answered(folder, folder / "mr--v.nii.gz")
    written = nib.load(path)
    assert type(written) is type(source) and written.header.endianness == source.header.endianness
    for field in (*QFORM_FIELDS, *SFORM_FIELDS):
        assert np.array_equal(written.header[field], source.header[field], equal_nan=True), field
    assert written.get_data_dtype() == np.uint8 and np.array_equal(np.asarray(written.dataobj), VOXELS > 450)
    assert mask.sum() == (VOXELS > 450).sum()


def test_codes_of_0_stay_0_and_the_mask_lies_on_the_image_in_itk(tmp_path: Path) -> None:
    saved(tmp_path / "mr--v.nii.gz", forms(0, 0))
    image, _, path = answered(tmp_path, tmp_path / "mr--v.nii.gz")
    assert not image.grid.in_patient_coordinates and image.warnings == ()
    shown, mask = sitk.ReadImage(str(tmp_path / "mr--v.nii.gz")), sitk.ReadImage(str(path))
    for of in ("GetOrigin", "GetDirection", "GetSpacing", "GetSize"):
        assert getattr(mask, of)() == getattr(shown, of)(), of


def test_sform_and_qform_that_disagree_are_told_and_kept(tmp_path: Path) -> None:
    saved(tmp_path / "mr--v.nii.gz", forms(1, 1))
    image, _, path = answered(tmp_path, tmp_path / "mr--v.nii.gz")
    (line,) = image.warnings
    assert "mr--v.nii.gz" in line and "sform and qform disagree" in line
    assert np.allclose(image.grid.affine[:, [*np.argsort(image.file_axes), 3]], np.diag([-1, -1, 1, 1]) @ SFORM)
    mask = nib.load(path)
    assert np.allclose(mask.get_sform(), SFORM) and np.allclose(mask.get_qform(), QFORM, atol=1e-4)


def test_what_agrees_to_rounding_is_not_told(tmp_path: Path) -> None:
    turned = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.3, 0.1, -0.2) @ np.diag([0.9, 0.9, 3.0]), (10, -20, 5))

    def change(file: Any) -> None:
        file.set_sform(turned, 1)
        file.set_qform(turned, 1)

    saved(tmp_path / "mr--v.nii.gz", change)
    assert answered(tmp_path, tmp_path / "mr--v.nii.gz")[0].warnings == ()


def with_singular_sform(path: Path, qform: int) -> Path:
    """A file whose sform has a code and a row of zeros (srow_x, 280 bytes into a NIfTI-1 header)."""
    saved(path, forms(1, qform))
    content = path.read_bytes()
    path.write_bytes(content[:280] + bytes(16) + content[296:])
    return path


def test_a_form_that_is_no_place_is_told_and_the_other_is_taken(tmp_path: Path) -> None:
    (image,) = read_images(with_singular_sform(tmp_path / "mr--v.nii", 1), Modality.MR)
    (line,) = image.warnings
    assert "mr--v.nii" in line and "sform has a code and is no place" in line
    assert np.allclose(image.grid.affine[:, [*np.argsort(image.file_axes), 3]], np.diag([-1, -1, 1, 1]) @ QFORM)
    write_mask(np.asarray(image.pixels > 450), image, tmp_path / "mask.nii")
    assert np.allclose(nib.load(tmp_path / "mask.nii").get_qform(), QFORM, atol=1e-4)


def test_a_single_form_that_is_no_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GeometryError, match=r"mr--v\.nii.*neither its sform nor its qform"):
        read_images(with_singular_sform(tmp_path / "mr--v.nii", 0), Modality.MR)


@pytest.mark.parametrize("shape", [(6, 7, 1), (6, 7), (6, 1, 7), (6, 7, 4, 1)])
def test_a_single_slice_keeps_its_grid(tmp_path: Path, shape: tuple[int, ...]) -> None:
    voxels = np.random.default_rng(1).integers(0, 900, shape).astype(np.int16)
    source = saved(tmp_path / "mr--v.nii.gz", forms(1, 1), voxels)
    (image,) = read_images(tmp_path / "mr--v.nii.gz", Modality.MR)
    mask = np.asarray(image.pixels > 450)
    target = target_named("brain tumor")
    found = Finding("brain tumor", target, FindingStatus.FOUND, 0.9, mask)
    findings = Findings((found,), ModelIdentity("m", "1", "0" * 64), image.grid, image.modality, "q", "a")
    write_answer(image, findings, tmp_path / "out")
    written = nib.load(tmp_path / "out" / "mask-1-brain_tumor.nii.gz")
    assert written.shape == shape[:3] and np.array_equal(np.asarray(written.dataobj), voxels.reshape(shape[:3]) > 450)
    assert np.allclose(written.get_sform(), source.get_sform()) and np.allclose(written.get_qform(), source.get_qform())


def test_a_mask_tells_nothing_of_the_patient(tmp_path: Path) -> None:
    def change(file: Any) -> None:
        file.header["descrip"], file.header["db_name"] = b"Doe^Jane", b"Doe^Jane"
        file.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"Doe^Jane"))
        file.header["cal_max"] = 400

    saved(tmp_path / "mr--v.nii", change)
    (image,) = read_images(tmp_path / "mr--v.nii", Modality.MR)
    write_mask(np.asarray(image.pixels > 450), image, tmp_path / "mask.nii")
    assert b"Doe" not in (tmp_path / "mask.nii").read_bytes()
    assert float(nib.load(tmp_path / "mask.nii").header["cal_max"]) == 0
