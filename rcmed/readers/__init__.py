"""Files to images, and masks back to the file's own grid.

Pictures (PNG, JPEG, TIFF) are read by `picture_files` and `tiff_files`, volumes (NIfTI, NRRD, MHA, MHD) by
`volume_files`. What is none of these (a DICOM file, a folder) goes to the readers of the entry-point group
`rcmed.readers`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rcmed.errors import ConfigurationError, GeometryError, InputError, UnknownFormatError, UnreadableFileError
from rcmed.image import Image
from rcmed.modality import Modality
from rcmed.readers.picture_files import PICTURES, read_picture
from rcmed.readers.pixel_values import checked_values
from rcmed.readers.tiff_files import TIFFS, read_tiff
from rcmed.readers.volume_files import ITK_FORMATS, NIFTIS, read_itk, read_nifti, write_nifti

# Entry points of this group are called as reader(path, modality) -> list[Image]; one that does not know the format
# raises UnknownFormatError, and the next is asked.
READERS = "rcmed.readers"

# What a file name may start with, before "--", as in the published index.
PREFIXES = {modality.value: modality for modality in Modality} | {
    "x": Modality.X_RAY,
    "xray": Modality.X_RAY,
    "x-ray": Modality.X_RAY,
    "mri": Modality.MR,
    "pt": Modality.PET,
    "us": Modality.ULTRASOUND,
}


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
            return [checked_values(read_nifti(path, known, channel), str(path))]
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
    """The suffix of the format that holds a mask of this image: .nii.gz (volume), .png (2D) or .tif (frames).

    A single slice of a volume file keeps its grid, too.
    """
    if image.is_volume or (image.files and suffix_of(image.files[0]) in (*NIFTIS, *ITK_FORMATS)):
        return ".nii.gz"
    return ".png" if image.grid.shape[0] == 1 else ".tif"


def write_mask(mask: NDArray[np.bool_], image: Image, path: Path | str) -> None:
    """Write a mask on the grid of the file that the image came from.

    Args:
        mask: bool (slice, row, column) on the image's grid.
        path: .nii or .nii.gz (uint8 0 and 1; place and voxel order of the input, see `volume_files.write_nifti`), .png
            (uint8 0 and 255; one slice) or .tif (uint8 0 and 255; a page per slice).

    Raises:
        GridMismatchError: the mask does not lie on the image's grid.
        GeometryError: several slices for a PNG.
        ConfigurationError: another suffix.
    """
    image.grid.require_mask(mask)
    path = Path(path)
    suffix = suffix_of(path)
    if suffix in NIFTIS:
        write_nifti(mask.astype(np.uint8), image, path)
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
        return read_nifti
    if suffix in ITK_FORMATS:
        return read_itk
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
