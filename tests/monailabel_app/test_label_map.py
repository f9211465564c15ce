from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from monailabel_app.tasks.label_map import paint, write_nrrd
from rcmed.image import Grid, Image
from rcmed.modality import Modality
from rcmed.readers import read_images

ANGLE = st.floats(-180, 180)
SPACING = st.floats(0.1, 8)
PLACE = st.floats(-500, 500)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 7)),
    angles=st.tuples(ANGLE, ANGLE, ANGLE),
    spacing=st.tuples(SPACING, SPACING, SPACING),
    origin=st.tuples(PLACE, PLACE, PLACE),
    mirrored=st.booleans(),
    axes=st.sampled_from(list(itertools.permutations(range(3)))),
    voxel=st.tuples(st.integers(0, 4), st.integers(0, 5), st.integers(0, 6)),
)
def test_each_voxel_lies_where_the_grid_says(shape, angles, spacing, origin, mirrored, axes, voxel) -> None:
    """Stock writes a 2D result 1 x 30 x 20 and guesses flips; here the reader finds every voxel at the grid's place."""
    directions = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    if mirrored:
        directions[:, 0] *= -1
    affine = np.eye(4)
    affine[:3, :3] = directions * spacing
    affine[:3, 3] = origin
    image = Image(np.zeros(shape, np.int16), Grid(shape, affine), Modality.CT, file_axes=axes)
    index = tuple(min(number, size - 1) for number, size in zip(voxel, shape, strict=True))
    values = np.zeros(shape, np.uint8)
    values[index] = 7
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mask.nrrd"
        write_nrrd(values, image, path)
        read = sitk.ReadImage(str(path))
    assert read.GetPixelID() == sitk.sitkUInt8
    file_index = [0, 0, 0]
    for axis, number in zip(axes, index, strict=True):
        file_index[axis] = number
    assert read.GetPixel(file_index) == 7
    assert int(np.count_nonzero(sitk.GetArrayFromImage(read))) == 1
    there = read.TransformIndexToPhysicalPoint(file_index)
    np.testing.assert_allclose(there, image.grid.to_patient(np.array(index, dtype=float)), atol=1e-3)


def test_a_mask_of_a_nifti_file_has_the_files_own_axes(tmp_path: Path) -> None:
    """A sagittal volume with RAS axes: size, spacing, origin and direction of the mask are those of the file."""
    affine = np.array([[0, 0, 3.0, -10], [-0.7, 0, 0, 40], [0, -0.8, 0, 50], [0, 0, 0, 1]])
    voxels = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    nib.save(nib.Nifti1Image(voxels, affine), tmp_path / "ct--s.nii.gz")
    (image,) = read_images(tmp_path / "ct--s.nii.gz")
    write_nrrd((image.pixels == 37).astype(np.uint8), image, tmp_path / "mask.nrrd")
    source, mask = sitk.ReadImage(str(tmp_path / "ct--s.nii.gz")), sitk.ReadImage(str(tmp_path / "mask.nrrd"))
    assert mask.GetSize() == source.GetSize()
    np.testing.assert_allclose(mask.GetDirection(), source.GetDirection(), atol=1e-6)
    np.testing.assert_allclose(mask.GetOrigin(), source.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(mask.GetSpacing(), source.GetSpacing(), atol=1e-6)
    assert np.array_equal(sitk.GetArrayFromImage(mask) == 1, sitk.GetArrayFromImage(source) == 37)


def test_a_small_mask_stays_visible_on_a_large_one() -> None:
    image = Image(np.zeros((1, 4, 4), np.uint8), Grid.without_geometry(4, 4), Modality.CT)
    liver, tumour = np.ones((1, 4, 4), bool), np.zeros((1, 4, 4), bool)
    tumour[0, 1, 1] = True
    for order in ([(2, tumour), (1, liver)], [(1, liver), (2, tumour)], [(1, liver), (2, tumour), (3, None)]):
        painted = paint(order, image)
        assert painted[0, 1, 1] == 2
        assert np.count_nonzero(painted == 1) == 15
