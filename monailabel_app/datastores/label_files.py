"""Label maps that a viewer submits, onto the grid of their image: NRRD, Slicer's .seg.nrrd, NIfTI, a picture, a SEG."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nrrd
import numpy as np
from numpy.typing import NDArray

from dicom_bridge.results.reading import read_segments
from monailabel_app.datastores.label_names import names_of_values
from rcmed.errors import GridMismatchError, InputError, UnreadableFileError
from rcmed.image import Grid, Image
from rcmed.readers import NIFTIS, read_images, suffix_of
from rcmed.stored_pixels import MAX_VOXELS

POSITION_TOLERANCE = 0.25
"""Largest distance of a corner of a label map from a voxel of the image, in voxels: viewers round positions."""
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
        path: .nrrd, .seg.nrrd (overlaps survive), .nii, .nii.gz, .png or .tif (pictures), .dcm (a SEG).
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
    if suffix == ".nrrd":
        maps = _read_nrrd(path)
    elif suffix in (*NIFTIS, ".png", ".tif", ".tiff"):
        maps = _read_other(path, image)
    else:
        raise InputError(f"{path.name}: labels are taken as .nrrd, .seg.nrrd, .nii, .nii.gz or .dcm (SEG)")
    layers = [_whole_numbers(layer, path) for layer in maps.layers]
    layers = [bring_onto(layer, maps.affine, image.grid, path.name) for layer in layers]
    segments = maps.segments
    if segments is None:
        values = sorted({int(value) for layer in layers for value in np.unique(layer[layer > 0])})
        if len(values) > MOST_SEGMENTS:
            raise InputError(f"{path.name}: holds {len(values)} values; a label map has at most {MOST_SEGMENTS}")
        names = names_of_values(values, info)
        segments = tuple((names[value], 0, value) for value in values)
    found = [NamedMask(name, layers[layer] == value) for name, layer, value in segments]
    return [segment for segment in found if segment.mask.any()]


def bring_onto(
    values: NDArray[np.integer], affine: NDArray[np.float64] | None, grid: Grid, name: str
) -> NDArray[np.integer]:
    """The same voxels on another grid, of which they are a part; axes may be swapped and turned.

    Args:
        values: (first, second, third).
        affine: float64 (4, 4) from these axes to LPS mm; None: they count pixels as a picture's columns and rows do.
        grid: of the image.
        name: for the message.
    Returns:
        (slice, row, column); 0 where `values` does not reach.
    Raises:
        GridMismatchError: spacing, orientation or position differ, or something lies outside of the grid.
    """
    turned = _by_position(values, affine, grid) if affine is not None else None
    if turned is None and not grid.in_patient_coordinates and values.shape == grid.shape[::-1]:
        # A picture has no place in the patient: viewers invent one, but keep columns, rows and slices.
        turned = np.transpose(values)
    if turned is None:
        raise GridMismatchError(
            f"{name}: its voxels {values.shape} do not lie on those of the image {grid.shape[::-1]} (another size, "
            "spacing, orientation or position); draw it on the image itself"
        )
    return np.ascontiguousarray(turned)


def _by_position(values: NDArray[np.integer], affine: NDArray[np.float64], grid: Grid) -> NDArray[np.integer] | None:
    to_grid = np.linalg.inv(grid.affine) @ affine
    for axis in np.flatnonzero(np.array(values.shape) == 1):
        # How thick a single slice is, viewers do not agree on; its place and direction count.
        to_grid[:3, axis] /= np.abs(to_grid[:3, axis]).max()
    turn = np.round(to_grid[:3, :3])
    if not (np.abs(turn).sum(0) == 1).all() or not (np.abs(turn).sum(1) == 1).all():
        return None
    last = np.array(values.shape) - 1
    corners = np.array([[i, j, k] for i in (0, last[0]) for j in (0, last[1]) for k in (0, last[2])])
    exact = corners @ to_grid[:3, :3].T + to_grid[:3, 3]
    places = corners @ turn.T + np.round(to_grid[:3, 3])
    if np.abs(exact - places).max() > POSITION_TOLERANCE:
        return None
    axes = np.abs(turn).argmax(1)  # for each axis of the grid, that of the file
    turned = np.transpose(values, axes)
    turned = turned[tuple(slice(None, None, int(turn[axis, axes[axis]])) for axis in range(3))]
    first = places.min(0).astype(int)
    source, target = [], []
    for start, length, available in zip(first, turned.shape, grid.shape, strict=True):
        low, high = max(start, 0), min(start + length, available)
        if low >= high:
            return None
        source.append(slice(low - start, high - start))
        target.append(slice(low, high))
    inside = turned[tuple(source)]
    if np.count_nonzero(inside) != np.count_nonzero(turned):
        return None
    whole = np.zeros(grid.shape, dtype=values.dtype)
    whole[tuple(target)] = inside
    return whole


def _whole_numbers(values: NDArray[Any], path: Path) -> NDArray[np.integer]:
    if values.min(initial=0) < 0:
        raise InputError(f"{path.name}: a label map holds no negative numbers; this is an image perhaps")
    if values.dtype.kind != "f":
        return values
    whole = values.astype(np.int32) if np.isfinite(values).all() else None
    if whole is None or (values != whole).any():
        raise InputError(f"{path.name}: a label map holds whole numbers; these are fractions, an image perhaps")
    return whole


def _read_other(path: Path, image: Image) -> _LabelMaps:
    label = read_images(path, image.modality)[0]
    if label.is_colour:
        raise InputError(f"{path.name}: is a colour picture; a label map holds one whole number a voxel")
    values = np.transpose(label.pixels)
    affine = label.grid.affine[:, [2, 1, 0, 3]] if label.grid.in_patient_coordinates else None
    return _LabelMaps(values[np.newaxis], affine)


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
