"""Files to images and masks back, on the file's own grid."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from rcmed.errors import (
    ConfigurationError,
    GeometryError,
    GridMismatchError,
    InputError,
    UnknownFormatError,
    UnreadableFileError,
)
from rcmed.image import Image
from rcmed.modality import Modality
from rcmed.readers import mask_suffix, read_images, write_mask

DATA = Path(os.environ.get("RCMED_DATA", Path(__file__).parents[3] / "shared" / "data"))
NO_SHRINK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
generator = np.random.default_rng(7)


def read_one(path: Path, modality: Modality | None = None) -> Image:
    (image,) = read_images(path, modality)
    return image


def axis_affine(permutation: tuple[int, ...], signs: tuple[int, ...], spacing: tuple[float, ...]) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (patient_axis, sign, length) in enumerate(zip(permutation, signs, spacing, strict=True)):
        affine[patient_axis, axis] = sign * length
    affine[:3, 3] = (-31.5, 12.25, 400.0)
    return affine


@pytest.mark.parametrize(
    ("name", "modality"),
    [
        ("ct--a.png", Modality.CT),
        ("x_ray--a.png", Modality.X_RAY),
        ("x--a--b.png", Modality.X_RAY),
        ("mr--a.png", "mr"),
    ],
)
def test_modality_comes_from_the_prefix(tmp_path: Path, name: str, modality: Modality) -> None:
    PillowImage.fromarray(np.zeros((4, 6), np.uint8)).save(tmp_path / name)
    assert read_one(tmp_path / name).modality == modality


def test_argument_beats_the_prefix_and_a_silent_file_is_refused(tmp_path: Path) -> None:
    PillowImage.fromarray(np.zeros((4, 6), np.uint8)).save(tmp_path / "ct--a.png")
    assert read_one(tmp_path / "ct--a.png", Modality.MR).modality is Modality.MR
    (tmp_path / "ct--a.png").rename(tmp_path / "scan.png")
    with pytest.raises(ConfigurationError, match="--modality"):
        read_images(tmp_path / "scan.png")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_pixel_formats(tmp_path: Path, mode: str, suffix: str) -> None:
    if mode == "CMYK" and suffix == ".png":
        pytest.skip("PNG has no CMYK")
    path = tmp_path / f"ct--image{suffix}"
    stored = generator.integers(0, 40000, (5, 8)).astype(np.uint16)
    picture = PillowImage.fromarray(stored) if mode == "I;16" else PillowImage.new("RGB", (8, 5), (200, 10, 30))
    (picture if mode == "I;16" else picture.convert(mode)).save(path)
    image = read_one(path)
    assert image.grid.shape == (1, 5, 8)
    assert not image.grid.in_millimetres and not image.is_volume
    if mode == "I;16":
        assert image.pixels.dtype == np.uint16 and (image.pixels[0] == stored).all()
    elif mode in ("P", "RGB", "RGBA"):
        assert np.abs(image.pixels[0, 0, 0].astype(int) - (200, 10, 30)).max() <= 30  # the palette is coarse
    else:
        assert image.pixels.dtype == np.uint8


def test_exif_orientation_leaves_the_stored_pixels(tmp_path: Path) -> None:
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:8, :8] = 255
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    path = tmp_path / "dermoscopy--a.jpg"
    PillowImage.fromarray(pixels).save(path, quality=95, exif=exif)
    image = read_one(path)
    assert image.grid.shape == (1, 16, 32)
    assert image.pixels[0, :6, :6].min() > 200 and image.pixels[0, 10:].max() < 60
    assert "EXIF" in image.warnings[0]
    mask = image.pixels.min(axis=3) > 128
    write_mask(mask, image, tmp_path / "mask.png")
    assert (np.asarray(PillowImage.open(tmp_path / "mask.png")) == mask[0] * 255).all()


def test_tiff_pages_are_frames_and_sixteen_bit_colour_is_scaled(tmp_path: Path) -> None:
    frames = generator.integers(0, 60000, (3, 6, 9)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "pathology--frames.tif", frames, photometric="minisblack")
    image = read_one(tmp_path / "pathology--frames.tif")
    assert (image.pixels == frames).all() and not image.is_volume
    assert mask_suffix(image) == ".tif"
    write_mask(frames > 30000, image, tmp_path / "mask.tif")
    assert (tifffile.imread(tmp_path / "mask.tif") == (frames > 30000) * 255).all()
    with pytest.raises(GeometryError, match="one slice"):
        write_mask(frames > 30000, image, tmp_path / "mask.png")
    for planar in ("contig", "separate"):
        colour = np.full((6, 9, 3), (0, 32896, 65535), np.uint16)
        stored = colour if planar == "contig" else np.moveaxis(colour, -1, 0)
        tifffile.imwrite(tmp_path / "pathology--c.tif", stored, photometric="rgb", planarconfig=planar)
        assert (read_one(tmp_path / "pathology--c.tif").pixels[0, 0, 0] == (0, 128, 255)).all()


@NO_SHRINK
@given(
    permutation=st.permutations((0, 1, 2)),
    signs=st.tuples(*[st.sampled_from((-1, 1))] * 3),
    spacing=st.tuples(*[st.sampled_from((0.5, 0.75, 1.0, 3.0))] * 3),
    angle=st.sampled_from((0.0, 0.3)),
)
def test_nifti_masks_go_back_to_the_file_grid(
    tmp_path: Path, permutation: tuple[int, ...], signs: tuple[int, ...], spacing: tuple[float, ...], angle: float
) -> None:
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine = turn @ axis_affine(permutation, signs, spacing)
    voxels = generator.integers(-1000, 1000, (4, 5, 6)).astype(np.int16)
    nib.save(nib.Nifti1Image(voxels, affine), tmp_path / "mr--volume.nii.gz")
    image = read_one(tmp_path / "mr--volume.nii.gz")
    assert image.is_volume and image.grid.in_patient_coordinates
    assert image.grid.spacing[0] == pytest.approx(max(spacing), rel=1e-6)
    # Every voxel keeps its place in the patient: RAS of the file against LPS of the grid.
    index = np.array((1, 2, 3))
    in_file = np.empty(3)
    in_file[list(image.file_axes)] = index
    place = affine @ [*in_file, 1]
    assert np.allclose(image.grid.to_patient(index), place[:3] * (-1, -1, 1), atol=1e-4)
    assert image.pixels[tuple(index)] == voxels[tuple(in_file.astype(int))]
    write_mask(image.pixels > 0, image, tmp_path / "mask.nii.gz")
    mask, source = nib.load(tmp_path / "mask.nii.gz"), nib.load(tmp_path / "mr--volume.nii.gz")
    assert (np.asarray(mask.dataobj) == (voxels > 0)).all()
    assert np.array_equal(mask.affine, source.affine)
    assert np.allclose(mask.get_qform(), source.affine, atol=1e-4)


def test_isotropic_volumes_are_sliced_from_feet_to_head(tmp_path: Path) -> None:
    voxels = np.zeros((4, 5, 6), np.uint8)
    nib.save(nib.Nifti1Image(voxels, axis_affine((2, 0, 1), (1, 1, 1), (1.0, 1.0, 1.0))), tmp_path / "ct--v.nii")
    image = read_one(tmp_path / "ct--v.nii")
    assert image.file_axes == (0, 2, 1)  # head-feet, front-back, left-right


def test_nifti_that_says_nothing_of_its_place(tmp_path: Path) -> None:
    file = nib.Nifti1Image(np.zeros((4, 5, 6), np.uint8), None)
    nib.save(file, tmp_path / "ct--v.nii")
    grid = read_one(tmp_path / "ct--v.nii").grid
    assert not grid.in_patient_coordinates and not grid.in_millimetres


def test_four_dimensions_and_damage_are_refused(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6, 3), np.uint8), np.eye(4)), tmp_path / "mr--v.nii")
    with pytest.raises(GeometryError, match="three axes"):
        read_images(tmp_path / "mr--v.nii")
    for name in ("mr--a.nii.gz", "mr--a.png", "mr--a.tif", "mr--a.nrrd", "mr--a.mha", "mr--a.jpg"):
        (tmp_path / name).write_bytes(b"no image at all" * 40)
        with pytest.raises(UnreadableFileError, match=name):
            read_images(tmp_path / name)
    with pytest.raises(UnreadableFileError, match="no such file"):
        read_images(tmp_path / "mr--absent.png")


def test_other_formats_are_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UnknownFormatError) as refusal:
        read_images(tmp_path / "notes.txt")
    assert "notes.txt" in str(refusal.value) and "\n" not in str(refusal.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError):
        read_images(tmp_path / "empty")


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".mhd"])
def test_itk_formats_round_trip(tmp_path: Path, suffix: str) -> None:
    voxels = generator.integers(0, 900, (6, 5, 4)).astype(np.int16)  # (third, second, first)
    file = sitk.GetImageFromArray(voxels)
    file.SetSpacing((0.7, 0.8, 2.5))
    file.SetOrigin((-10.0, 20.5, 30.25))
    file.SetDirection((0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0))
    path = tmp_path / f"ct--volume{suffix}"
    sitk.WriteImage(file, str(path))
    image = read_one(path)
    assert image.grid.shape[0] == 6 and image.grid.in_patient_coordinates
    in_file = np.empty(3)
    in_file[list(image.file_axes)] = (1, 2, 3)
    assert np.allclose(
        image.grid.to_patient(np.array((1, 2, 3))), file.TransformIndexToPhysicalPoint([int(i) for i in in_file])
    )
    write_mask(image.pixels > 450, image, tmp_path / "mask.nii.gz")
    mask = sitk.ReadImage(str(tmp_path / "mask.nii.gz"))
    assert (sitk.GetArrayFromImage(mask) == (voxels > 450)).all()
    assert np.allclose(mask.GetOrigin(), file.GetOrigin(), atol=1e-4)
    assert np.allclose(mask.GetDirection(), file.GetDirection(), atol=1e-5)
    assert np.allclose(mask.GetSpacing(), file.GetSpacing(), atol=1e-5)


def test_a_mask_of_another_shape_is_refused(tmp_path: Path) -> None:
    PillowImage.fromarray(np.zeros((4, 6), np.uint8)).save(tmp_path / "ct--a.png")
    image = read_one(tmp_path / "ct--a.png")
    with pytest.raises(GridMismatchError):
        write_mask(np.zeros((1, 6, 4), bool), image, tmp_path / "mask.png")


VOLUMES = sorted((DATA / "volumes").glob("*/*/image.nii.gz"))


@pytest.mark.skipif(not VOLUMES, reason="no volumes at RCMED_DATA")
@pytest.mark.parametrize("path", VOLUMES, ids=lambda path: path.parent.name)
def test_real_volumes_give_their_label_back(path: Path, tmp_path: Path) -> None:
    image = read_one(path, Modality.PET if path.parent.name.endswith("_pet") else Modality.CT)
    label = nib.load(path.with_name("label.nii.gz"))
    voxels = np.asarray(label.dataobj) > 0
    write_mask(np.transpose(voxels.reshape(voxels.shape[:3]), image.file_axes), image, tmp_path / "mask.nii.gz")
    mask = nib.load(tmp_path / "mask.nii.gz")
    assert (np.asarray(mask.dataobj) == voxels).all()
    assert np.allclose(mask.affine, nib.load(path).affine, atol=1e-5)
    head_feet = np.abs(image.grid.affine[2, :3]) / image.grid.spacing
    assert head_feet.argmax() == 0, "CT and PET are read in axial slices"
