"""NIfTI, NRRD, MHA and MHD to images, and masks to NIfTI on the file's own grid. Here alone NIfTI's RAS turns to LPS.

Volumes are only transposed to (slice, row, column), never flipped or resampled.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcmed.errors import GeometryError
from rcmed.image import Grid, Image
from rcmed.modality import Modality
from rcmed.readers.nifti_header import LPS_FROM_RAS, mask_header, placement_of
from rcmed.readers.stored_pixels import grey_or_rgb8, require_size, to_rgb8
from rcmed.readers.volume_axes import slicing_axes

NIFTIS = (".nii", ".nii.gz")
ITK_FORMATS = (".nrrd", ".nhdr", ".mha", ".mhd")


def read_nifti(path: Path, modality: Modality, channel: int | None = None) -> Image:
    """Read a NIfTI-1 or NIfTI-2 volume; of a file that holds several, the one numbered `channel` from 0."""
    import nibabel as nib

    file: Any = nib.load(path)
    shape = tuple(int(length) for length in file.shape)
    require_size(path, shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) == 4 and channel is not None:
        if channel >= shape[3]:
            raise GeometryError(f"{path}: has {shape[3]} channels, none numbered {channel}; count from 0")
        voxels, shape = np.asanyarray(file.dataobj[..., channel]), shape[:3]
    elif len(shape) > 3:
        raise GeometryError(f"{path}: dim {list(shape)} has more than three axes; give one volume of it")
    else:
        voxels = np.asanyarray(file.dataobj)
    shape = shape + (1,) * (3 - len(shape))
    voxels = grey_or_rgb8(path, voxels, shape)
    if not hasattr(file.header, "get_qform"):
        # Analyze 7.5, NIfTI's ancestor: what it says of orientation nobody agrees on.
        affine = np.asarray(LPS_FROM_RAS @ file.affine, dtype=np.float64)
        return _volume_image(path, voxels, affine, modality, _has_spacing(affine), False)
    placement = placement_of(path, file, shape)
    spaced = placement.is_given or _has_spacing(placement.affine)
    image = _volume_image(path, voxels, placement.affine, modality, spaced, placement.is_given)
    return replace(image, warnings=placement.warnings, nifti_header=file.header)


def _has_spacing(affine: NDArray[np.float64]) -> bool:
    """Whether a file that says nothing of its place says how large its voxels are: ones mean nothing."""
    return not np.allclose(np.linalg.norm(affine[:3, :3], axis=0), 1.0)


def read_itk(path: Path, modality: Modality) -> Image:
    """Read NRRD, MHA or MHD, as ITK reads them."""
    import SimpleITK as sitk  # noqa: N813

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    size = reader.GetSize()
    require_size(path, size)
    if len(size) > 3 and max(size[3:]) > 1:
        raise GeometryError(f"{path}: sizes {list(size)} have more than three axes; give one volume of it")
    file = reader.Execute()
    while file.GetDimension() > 3:
        file = file[..., 0]
    dimension = file.GetDimension()
    components = file.GetNumberOfComponentsPerPixel()
    voxels = sitk.GetArrayFromImage(file)  # (third, second, first[, component])
    voxels = np.transpose(voxels, (*range(dimension - 1, -1, -1), *range(dimension, voxels.ndim)))
    if components in (3, 4):
        voxels = to_rgb8(path, voxels)
    elif components != 1:
        raise GeometryError(f"{path}: {components} components a voxel; only grey and RGB can be read")
    affine = np.eye(4)
    direction = np.reshape(file.GetDirection(), (dimension, dimension))
    affine[:dimension, :dimension] = direction * np.asarray(file.GetSpacing())
    affine[:dimension, 3] = file.GetOrigin()
    if dimension == 2:
        voxels = voxels[:, :, np.newaxis]
    # An NRRD may leave its space out; ITK then assumes what the file does not say.
    is_nrrd = path.suffix.lower() in (".nrrd", ".nhdr")
    positioned = dimension == 3 and (not is_nrrd or reader.HasMetaDataKey("NRRD_space"))
    spaced = positioned or not np.allclose(file.GetSpacing(), 1.0)
    return _volume_image(path, voxels, affine, modality, spaced, positioned)


def _volume_image(
    path: Path, voxels: NDArray[Any], affine: NDArray[np.float64], modality: Modality, spaced: bool, positioned: bool
) -> Image:
    """Voxels (first, second, third[, 3]) in file order, with their affine to LPS mm, to an Image by transposition."""
    axes = slicing_axes(voxels.shape[:3], affine, modality)
    pixels = np.ascontiguousarray(np.transpose(voxels, (*axes, 3) if voxels.ndim == 4 else axes))
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    slices, rows, columns = pixels.shape[:3]
    try:
        grid = Grid((slices, rows, columns), affine[:, [*axes, 3]], spaced, positioned)
    except GeometryError as error:
        raise GeometryError(f"{path}: {error}") from error
    return Image(pixels, grid, modality, files=(path,), is_volume=slices > 1, file_axes=axes)


def write_nifti(mask: NDArray[np.uint8], image: Image, path: Path) -> None:
    """Write values (slice, row, column) on the voxels of the image's file, in its order.

    Of a NIfTI file the mask has the header's sform, qform, codes, units, byte order and version. Else sform and qform
    say the grid, with the code 1 (scanner) where that is a place in the patient.
    """
    import nibabel as nib

    order = tuple(int(axis) for axis in np.argsort(image.file_axes))
    voxels = np.ascontiguousarray(np.transpose(mask, order))
    if image.nifti_header is not None:
        axes = min(3, max(2, len(image.nifti_header.get_data_shape())))
        header = mask_header(image.nifti_header, axes)
        kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
        # The header's own affine, so that nibabel leaves the header as it is.
        nib.save(kind(voxels.reshape(header.get_data_shape()), header.get_best_affine(), header), path)
        return
    affine = LPS_FROM_RAS @ image.grid.affine[:, [*order, 3]]
    file = nib.Nifti1Image(voxels, affine)
    code = "scanner" if image.grid.in_patient_coordinates else "aligned"
    file.header.set_xyzt_units("mm")
    file.set_sform(affine, code)
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    # A sheared grid has no quaternion; readers then take the sform, which is exact.
    sheared = not np.allclose(directions.T @ directions, np.eye(3), atol=1e-4)
    file.set_qform(None if sheared else affine, "unknown" if sheared else code)
    nib.save(file, path)
