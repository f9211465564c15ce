"""Label maps that a viewer submits, onto the grid of their image: NRRD, Slicer's .seg.nrrd, NIfTI, a picture, a SEG."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nrrd
import numpy as np
from numpy.typing import NDArray

from dicom_bridge.results.segmentations.reading import read_segments
from monailabel_app.datastores.label_names import names_of_values
from rcmed.errors import InputError, UnreadableFileError
from rcmed.image import Image
from rcmed.readers import suffix_of
from rcmed.readers.alignment import bring_onto
from rcmed.readers.label_maps import read_label_map, whole_numbers
from rcmed.readers.stored_pixels import MAX_VOXELS
from rcmed.readers.volume_files import NIFTIS

MOST_SEGMENTS = 255
_MAX_LAYERS = 256
# Number types of label maps, by the NRRD format's names for them.
_TYPES = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    "float": "f4",
    "double": "f8",
}
_TURNED = {"L": 1, "R": -1, "P": 1, "A": -1, "S": 1, "I": -1}


@dataclass(frozen=True, eq=False)
class NamedMask:
    """One segment of a submitted label: its name, and a mask bool (slice, row, column) on the image's grid."""

    name: str
    mask: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class _LabelMaps:
    """What a file holds.

    Attributes:
        layers: (layer, first, second, third) values in the order of the file's axes.
        affine: from (first, second, third) to LPS mm; None where the file says nothing of it.
        segments: (name, layer, value) of each segment, where the file itself names them.
    """

    layers: NDArray[Any]
    affine: NDArray[np.float64] | None
    segments: tuple[tuple[str, int, int], ...] | None = None


def read_label(path: Path, image: Image, info: Mapping[str, Any]) -> list[NamedMask]:
    """Read a submitted label onto its image's grid. Axes may be turned, swapped or cropped; nothing is resampled.

    Args:
        path: .nrrd, .seg.nrrd (overlaps survive), .nii, .nii.gz, .mha, .png or .tif (pictures), .dcm (a SEG).
        image: that was labelled.
        info: as sent with the label, see `label_names`; a file that names its own segments is believed first.
    Returns:
        segments with at least one voxel, in the order of their values.
    Raises:
        InputError: unreadable, of another kind, or a value has no name.
        GridMismatchError: it does not lie on the image's voxels.
    """
    if path.suffix.lower() == ".dcm":
        found = [NamedMask(segment.label, segment.mask) for segment in read_segments(path, image)]
        return [segment for segment in found if segment.mask.any()]
    suffix = suffix_of(path)
    segments = None
    if suffix == ".nrrd":
        maps = _read_nrrd(path)
        numbers = [whole_numbers(layer, path.name) for layer in maps.layers]
        layers = [bring_onto(layer, maps.affine, image.grid, path.name) for layer in numbers]
        segments = maps.segments
    elif suffix in (*NIFTIS, ".mha", ".png", ".tif", ".tiff"):
        if suffix == ".mha":
            _require_own_data(path)
        layers = [read_label_map(path, image, path.name)]
    else:
        raise InputError(
            f"{path.name}: labels are taken as .nrrd, .seg.nrrd, .nii, .nii.gz, .mha, .png, .tif or .dcm (SEG)"
        )
    if segments is None:
        values = sorted({int(value) for layer in layers for value in np.unique(layer[layer > 0])})
        if len(values) > MOST_SEGMENTS:
            raise InputError(f"{path.name}: holds {len(values)} values; a label map has at most {MOST_SEGMENTS}")
        names = names_of_values(values, info)
        segments = tuple((names[value], 0, value) for value in values)
    found = [NamedMask(name, layers[layer] == value) for name, layer, value in segments]
    return [segment for segment in found if segment.mask.any()]


def _require_own_data(path: Path) -> None:
    """Refuse an MHA whose header names another file, which may be any of this machine."""
    with path.open("rb") as file:
        header = file.read(2**16)
    if re.search(rb"^ElementDataFile\s*=\s*LOCAL\s*$", header, re.MULTILINE) is None:
        raise UnreadableFileError(f"{path.name}: its data is in another file; save it as one .mha")


def _read_nrrd(path: Path) -> _LabelMaps:
    """Read an NRRD with its data attached; a header that names other files is refused, and sizes are believed first."""
    with path.open("rb") as file:
        try:
            header = nrrd.read_header(file)
        except Exception as error:  # parsers of damaged files raise nearly anything
            raise UnreadableFileError(f"{path.name}: can't be read as NRRD ({type(error).__name__})") from error
        payload = file.read()
    sizes = [int(size) for size in header.get("sizes", ())]
    kind = _TYPES.get(str(header.get("type")))
    if kind is None or len(sizes) not in (2, 3, 4) or min(sizes, default=0) < 1:
        raise UnreadableFileError(f"{path.name}: a label map is NRRD of numbers with 3 axes, or layers of 3 axes")
    if "data file" in header or "datafile" in header:
        raise UnreadableFileError(f"{path.name}: its data is in another file; save it as one .nrrd")
    listed = len(sizes) == 4
    layers = sizes[0] if listed else 1
    count = int(np.prod(sizes, dtype=object))
    if layers > _MAX_LAYERS or count > MAX_VOXELS * min(layers, 4):
        raise UnreadableFileError(f"{path.name}: sizes {sizes} are above the limit")
    dtype = np.dtype(kind).newbyteorder(">" if str(header.get("endian", "little")) == "big" else "<")
    content = _unpacked(payload, str(header.get("encoding", "raw")), count * dtype.itemsize, path)
    values = np.frombuffer(content, dtype, count).reshape(sizes, order="F")
    if listed and [str(kind) for kind in header.get("kinds", ["list"])][0] == "domain":
        raise UnreadableFileError(f"{path.name}: has four axes in space or time; a label map has three")
    stacked = values if listed else values[np.newaxis]
    if stacked.ndim == 3:
        stacked = stacked[..., np.newaxis]
    return _LabelMaps(stacked, _nrrd_affine(header, listed), _nrrd_segments(header, layers))


def _unpacked(payload: bytes, encoding: str, size: int, path: Path) -> bytes:
    if encoding in ("gzip", "gz"):
        try:
            # One byte more than announced is never unpacked: a small file may unpack to a very large one.
            payload = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32).decompress(payload, size + 1)
        except zlib.error as error:
            raise UnreadableFileError(f"{path.name}: its compressed data is damaged ({error})") from error
    elif encoding != "raw":
        raise UnreadableFileError(f"{path.name}: encoding {encoding[:20]!r} is not read; save it as raw or gzip")
    if len(payload) != size:
        raise UnreadableFileError(f"{path.name}: its data is not of the size that its header announces")
    return payload


def _nrrd_affine(header: Mapping[str, Any], listed: bool) -> NDArray[np.float64] | None:
    """(4, 4) from the spatial axes to LPS mm; None where the header does not place them."""
    directions, origin = header.get("space directions"), header.get("space origin")
    space = str(header.get("space", ""))
    if directions is None or not space:
        return None
    letters = space.upper() if len(space) <= 4 else "".join(word[0] for word in space.upper().split("-"))
    if len(letters) != 3 or not set(letters) <= set(_TURNED):
        return None
    rows = np.asarray(directions, dtype=np.float64)[1 if listed else 0 :]
    if rows.shape != (3, 3) or not np.isfinite(rows).all():
        return None
    # Each letter of the space's name tells where its numbers grow.
    signs = np.diag([float(_TURNED[letter]) for letter in letters])
    affine = np.eye(4)
    affine[:3, :3] = signs @ rows.T
    affine[:3, 3] = signs @ np.asarray(origin if origin is not None else np.zeros(3), dtype=np.float64)
    return affine


def _nrrd_segments(header: Mapping[str, Any], layers: int) -> tuple[tuple[str, int, int], ...] | None:
    """(name, layer, value) of each segment of a .seg.nrrd; None where the header names none."""
    found = []
    for number in range(_MAX_LAYERS * 4):
        if f"Segment{number}_LabelValue" not in header:
            break
        try:
            layer = int(header.get(f"Segment{number}_Layer", 0))
            value = int(header[f"Segment{number}_LabelValue"])
        except ValueError:
            raise UnreadableFileError(f"Segment{number}: LabelValue and Layer must be whole numbers") from None
        if not 0 <= layer < layers:
            raise UnreadableFileError(f"Segment{number}: Layer {layer} is not in the file")
        name = " ".join(str(header.get(f"Segment{number}_Name", "")).split()) or f"Segment {number + 1}"
        found.append((name, layer, value))
    return tuple(found) or None
