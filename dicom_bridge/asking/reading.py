"""What somebody drops on the page, read into images: one file, several, or a folder with whatever is in it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from rcmed.errors import ConfigurationError, InputError, UnknownFormatError
from rcmed.image import Image
from rcmed.modality import Modality
from rcmed.readers import modality_from_name, read_images, suffix_of
from rcmed.readers.picture_files import PICTURES
from rcmed.readers.tiff_files import TIFFS
from rcmed.readers.volume_files import ITK_FORMATS, NIFTIS

_OWN_FORMATS = (*PICTURES, *TIFFS, *NIFTIS, *ITK_FORMATS)
# Voxels of a header file beside them, which names them.
_VOXELS_ALONE = (".raw", ".zraw", ".img")
_HEADERS_ALONE = (".mhd", ".nhdr")


@dataclass(frozen=True)
class Opened:
    """What was read.

    Attributes:
        images: each with what the page calls it.
        refused: a line for each file that is not among them, with the reason.
        needs_modality: whether files are refused because nothing says what kind of image they are.
    """

    images: tuple[tuple[str, Image], ...]
    refused: tuple[str, ...]
    needs_modality: bool = False


def open_dropped(root: Path, modality: Modality | None = None) -> Opened:
    """Read all that lies in a folder: pictures and volume files each alone, everything else together as DICOM.

    Args:
        root: the folder; hidden files are passed over. Names and lines tell the files' places in it.
        modality: of files that do not say.
    """
    files = sorted(path for path in root.rglob("*") if path.is_file() and not path.name.startswith("."))
    alone = [path for path in files if suffix_of(path) in _OWN_FORMATS]
    headers = [path for path in alone if suffix_of(path) in _HEADERS_ALONE]
    others = [path for path in files if path not in set(alone)]
    if headers:
        others = [path for path in others if suffix_of(path) not in _VOXELS_ALONE]
    images: list[tuple[str, Image]] = []
    refused: list[str] = []
    needs_modality = False
    for path in alone:
        try:
            modality or modality_from_name(path)
        except ConfigurationError:
            refused.append(f"{_name(path, root)}: the file does not say what kind of image it is; choose it")
            needs_modality = True
            continue
        try:
            images += [(_name(path, root), _as_dropped(image, root)) for image in read_images(path, modality)]
        except InputError as error:
            refused.append(_without(root, str(error)))
    if others:
        try:
            # One file alone gets a reason of its own, a folder the one that concerns most of its files.
            read = read_images(others[0] if len(others) == 1 else root, modality)
            images += [
                (_series_name(each, number, root), _as_dropped(each, root)) for number, each in enumerate(read, 1)
            ]
        except UnknownFormatError:
            several = f"{len(others)} files are" if len(others) > 1 else f"{_name(others[0], root)}: is"
            refused.append(f"{several} of no format that is known; drop PNG, JPEG, TIFF, NIfTI, NRRD, MHA or DICOM")
        except InputError as error:
            refused.append(_without(root, str(error)))
    if not files:
        refused.append("there is no file in what was dropped")
    return Opened(tuple(images), tuple(refused), needs_modality)


def _as_dropped(image: Image, root: Path) -> Image:
    """The image with names of files as they were dropped, for findings.json; those of DICOM are read again for SEG."""
    files = image.files if image.sources else tuple(Path(_name(path, root)) for path in image.files)
    return replace(image, files=files, warnings=tuple(_without(root, warning) for warning in image.warnings))


def _series_name(image: Image, number: int, root: Path) -> str:
    paths = [source.path for source in image.sources] or list(image.files)
    if not paths:
        return f"series {number}"
    name = _name(paths[0], root)
    several = len(set(paths))
    return name if several == 1 else f"{Path(name).parent.name or 'series'} {number}, {several} files"


def _name(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else path.name


def _without(root: Path, line: str) -> str:
    """A line of a reader without the folder that only we know."""
    return " ".join(line.replace(f"{root}/", "").replace(str(root), "what was dropped").split())
