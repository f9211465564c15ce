"""Files to images, and masks back to the file's own grid. The only place where NIfTI's RAS turns to LPS.

Pictures (PNG, JPEG, TIFF) are read by `rcmed.picture_files`. Volumes are only transposed to (slice, row, column), never
flipped or resampled. What is none of these (a DICOM file, a folder) goes to the readers of the entry-point group
`rcmed.readers`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcmed.errors import ConfigurationError, GeometryError, InputError, UnknownFormatError, UnreadableFileError
from rcmed.image import Grid, Image, Modality
from rcmed.picture_files import PICTURES, read_picture
from rcmed.pixel_values import checked_values
from rcmed.stored_pixels import grey_or_rgb8, require_size, to_rgb8
from rcmed.tiff_files import TIFFS, read_tiff
from rcmed.volume_axes import acquisition_axes

# Entry points of this group are called as reader(path, modality) -> list[Image]; one that does not know the format
# raises UnknownFormatError, and the next is asked.
READERS = "rcmed.readers"

NIFTIS = (".nii", ".nii.gz")
ITK_FORMATS = (".nrrd", ".nhdr", ".mha", ".mhd")

# What a file name may start with, before "--", as in the published index.
PREFIXES = {modality.value: modality for modality in Modality} | {
    "x": Modality.X_RAY,
    "xray": Modality.X_RAY,
    "x-ray": Modality.X_RAY,
    "mri": Modality.MR,
    "pt": Modality.PET,
    "us": Modality.ULTRASOUND,
}

_LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_images(path: Path | str, modality: Modality | None = None, channel: int | None = None) -> list[Image]:
    """Read all images of a file or a folder.

    Args:
        path: PNG, JPEG, TIFF, NIfTI, NRRD, MHA or MHD; anything else is offered to the registered readers.
        modality: for files that do not say. Without it the file name's prefix counts ("ct--", "x_ray--").
        channel: of a NIfTI file that holds several volumes, counted from 0; None: it must hold one.

    Raises:
        UnreadableFileError: no such file, or it can't be decoded; UnknownFormatError where no reader knows it.
        GeometryError: more than three dimensions, or an affine that is not invertible.
        ConfigurationError: neither the file, nor its name, nor `modality` tells the modality.
    """
    path = Path(path)
    if not path.exists():
        raise UnreadableFileError(f"{path}: no such file or folder")
    reader = None if path.is_dir() else _own_reader(path)
    if reader is None:
        return _ask_registered_readers(path, modality)
    known = modality or modality_from_name(path)
    try:
        if channel is not None and suffix_of(path) in NIFTIS:
            return [checked_values(_read_nifti(path, known, channel), str(path))]
        return [checked_values(reader(path, known), str(path))]
    except InputError:
        raise
    except Exception as error:  # decoders of damaged files raise nearly anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UnreadableFileError(f"{path}: can't be read as {suffix_of(path)}: {reason}") from error


def modality_from_name(path: Path) -> Modality:
    """The modality that an index-style file name starts with.

    Raises:
        ConfigurationError: the name does not say.
    """
    prefix = path.name.split("--", 1)[0].lower() if "--" in path.name else ""
    if prefix not in PREFIXES:
        choices = ", ".join(modality.value for modality in Modality)
        raise ConfigurationError(f"{path}: the file does not say its modality; give --modality (one of {choices})")
    return PREFIXES[prefix]


def suffix_of(path: Path) -> str:
    """The suffix in lower case; ".nii.gz" counts as one."""
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else path.suffix.lower()


def mask_suffix(image: Image) -> str:
    """The suffix of the format that holds a mask of this image: .nii.gz (volume), .png (2D) or .tif (frames)."""
    if image.is_volume:
        return ".nii.gz"
    return ".png" if image.grid.shape[0] == 1 else ".tif"


def write_mask(mask: NDArray[np.bool_], image: Image, path: Path | str) -> None:
    """Write a mask on the grid of the file that the image came from.

    Args:
        mask: bool (slice, row, column) on the image's grid.
        path: .nii or .nii.gz (uint8 0 and 1; affine and voxel order of the input), .png (uint8 0 and 255; one slice)
            or .tif (uint8 0 and 255; a page per slice).

    Raises:
        GridMismatchError: the mask does not lie on the image's grid.
        GeometryError: several slices for a PNG.
        ConfigurationError: another suffix.
    """
    image.grid.require_mask(mask)
    path = Path(path)
    suffix = suffix_of(path)
    if suffix in NIFTIS:
        _write_nifti(mask.astype(np.uint8), image, path)
    elif suffix == ".png":
        if mask.shape[0] != 1:
            raise GeometryError(f"{path}: a PNG holds one slice, the mask has {mask.shape[0]}; write .tif or .nii.gz")
        from PIL import Image as PillowImage

        PillowImage.fromarray(mask[0].astype(np.uint8) * 255).save(path)
    elif suffix in TIFFS:
        import tifffile

        tifffile.imwrite(path, mask.astype(np.uint8) * 255, photometric="minisblack", compression="zlib")
    else:
        raise ConfigurationError(
            f"{path}: masks are written as .nii.gz, .png or .tif, not {suffix or 'without suffix'}"
        )


def _own_reader(path: Path) -> Callable[[Path, Modality], Image] | None:
    suffix = suffix_of(path)
    if suffix in PICTURES:
        return read_picture
    if suffix in TIFFS:
        return read_tiff
    if suffix in NIFTIS:
        return _read_nifti
    if suffix in ITK_FORMATS:
        return _read_itk
    return None


def _ask_registered_readers(path: Path, modality: Modality | None) -> list[Image]:
    for entry in sorted(entry_points(group=READERS), key=lambda entry: entry.name):
        try:
            images: list[Image] = entry.load()(path, modality)
        except UnknownFormatError:
            continue
        return images
    what = "folder without readable images" if path.is_dir() else "file of unknown format"
    raise UnknownFormatError(f"{path}: {what}; give PNG, JPEG, TIFF, NIfTI, NRRD, MHA, or a DICOM file or folder")


def _read_nifti(path: Path, modality: Modality, channel: int | None = None) -> Image:
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
    header = file.header
    unit = header.get_xyzt_units()[0] if hasattr(header, "get_xyzt_units") else "mm"
    affine = np.array(file.affine, dtype=np.float64)
    affine[:3] *= {"micron": 1e-3, "meter": 1e3}.get(unit, 1.0)
    positioned = not hasattr(header, "get_qform") or int(header["qform_code"]) > 0 or int(header["sform_code"]) > 0
    spaced = positioned or not np.allclose(np.linalg.norm(affine[:3, :3], axis=0), 1.0)
    return _volume_image(path, voxels, _LPS_FROM_RAS @ affine, modality, spaced, positioned)


def _read_itk(path: Path, modality: Modality) -> Image:
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
    positioned = dimension == 3 and (suffix_of(path) not in (".nrrd", ".nhdr") or reader.HasMetaDataKey("NRRD_space"))
    spaced = positioned or not np.allclose(file.GetSpacing(), 1.0)
    return _volume_image(path, voxels, affine, modality, spaced, positioned)


def _volume_image(
    path: Path, voxels: NDArray[Any], affine: NDArray[np.float64], modality: Modality, spaced: bool, positioned: bool
) -> Image:
    """Voxels (first, second, third[, 3]) in file order, with their affine to LPS mm, to an Image by transposition."""
    axes = acquisition_axes(voxels.shape[:3], affine)
    pixels = np.ascontiguousarray(np.transpose(voxels, (*axes, 3) if voxels.ndim == 4 else axes))
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    slices, rows, columns = pixels.shape[:3]
    try:
        grid = Grid((slices, rows, columns), affine[:, [*axes, 3]], spaced, positioned)
    except GeometryError as error:
        raise GeometryError(f"{path}: {error}") from error
    return Image(pixels, grid, modality, files=(path,), is_volume=slices > 1, file_axes=axes)


def _write_nifti(mask: NDArray[np.uint8], image: Image, path: Path) -> None:
    import nibabel as nib

    order = tuple(int(axis) for axis in np.argsort(image.file_axes))
    affine = _LPS_FROM_RAS @ image.grid.affine[:, [*order, 3]]
    file = nib.Nifti1Image(np.ascontiguousarray(np.transpose(mask, order)), affine)
    code = "scanner" if image.grid.in_patient_coordinates else "aligned"
    file.header.set_xyzt_units("mm")
    file.set_sform(affine, code)
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    # A sheared grid has no quaternion; readers then take the sform, which is exact.
    sheared = not np.allclose(axes.T @ axes, np.eye(3), atol=1e-4)
    file.set_qform(None if sheared else affine, "unknown" if sheared else code)
    nib.save(file, path)
