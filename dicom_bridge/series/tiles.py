"""Tiled slides: frames put together to the total pixel matrix (PS3.3 C.7.6.17.3, C.8.12.4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from highdicom.spatial import is_tiled_image
from numpy.typing import NDArray

from dicom_bridge.series.headers.instance import (
    MAX_PIXEL_BYTES,
    Instance,
    functional_group,
    numbers,
    shown,
    text,
    value,
)
from rcmed.errors import GeometryError


@dataclass(frozen=True)
class _Tile:
    """Where a frame lies.

    Attributes:
        row, column: of its first pixel in the total pixel matrix, from 0.
        path: Optical Path Identifier (0048,0106).
        plane: place in a stack of focal planes.
    """

    row: int
    column: int
    path: str
    plane: float


def is_tiled(instance: Instance) -> bool:
    """Whether the frames are tiles of one picture."""
    return bool(is_tiled_image(instance.header))


def is_thumbnail(instance: Instance) -> bool:
    """Whether Image Type (0008,0008) says that this is a small copy of a slide (PS3.3 C.8.12.4.1.1)."""
    return "THUMBNAIL" in instance.image_type


def assemble_tiles(parts: Sequence[Instance], frames: Iterator[NDArray[Any]]) -> tuple[NDArray[Any], list[str]]:
    """Put tiles (row, column[, 3]) into one picture.

    Args:
        parts: the instance, or all of its concatenation in order.
        frames: of all parts, in order.
    Returns:
        the picture, and a line where further optical paths or focal planes are left out: the first of them is read.
    Raises:
        GeometryError: the matrix is too large, tiles are missing, or a tile has no place in it.
    """
    first = parts[0]
    matrix = [numbers(first.header, keyword, 1) for keyword in ("TotalPixelMatrixRows", "TotalPixelMatrixColumns")]
    rows, columns = (int(length[0]) if length else 0 for length in matrix)
    if not 0 < rows * columns * 3 <= MAX_PIXEL_BYTES // 4:
        raise GeometryError(
            f"{first.path}: a total pixel matrix of {rows} x {columns} can't be read at once; "
            "give a level of lower resolution"
        )
    tiles = _tiles(parts, rows, columns)
    kept = tiles[0]
    canvas: NDArray[Any] | None = None
    filled = np.zeros((rows, columns), dtype=bool)
    last = max(number for number, tile in enumerate(tiles) if _is_shown_with(tile, kept))
    for tile, pixels in zip(tiles[: last + 1], frames, strict=False):
        if canvas is None:
            # Tiles that were not stored are empty glass: the brightest value.
            bright = 255 if pixels.ndim == 3 else _brightest(first, pixels)
            canvas = np.full((rows, columns, *pixels.shape[2:]), bright, dtype=pixels.dtype)
        row, column = tile.row, tile.column
        if not (0 <= row < rows and 0 <= column < columns):
            raise GeometryError(f"{first.path}: a tile at row {row + 1}, column {column + 1} is outside the matrix")
        if not _is_shown_with(tile, kept) or filled[row, column]:
            continue
        height, width = min(pixels.shape[0], rows - row), min(pixels.shape[1], columns - column)
        canvas[row : row + height, column : column + width] = pixels[:height, :width]
        filled[row, column] = True
    if canvas is None:
        raise GeometryError(f"{first.path}: the slide holds no tile")
    return canvas, _left_out(first, tiles)


def _brightest(instance: Instance, pixels: NDArray[Any]) -> int:
    """The highest value that Bits Stored (0028,0101) allows: 4095 of 12 bits, not 65535."""
    stored = numbers(instance.header, "BitsStored", 1)
    highest = int(np.iinfo(pixels.dtype).max)
    return min(highest, 2 ** int(stored[0]) - 1) if stored and stored[0] >= 1 else highest


def _is_shown_with(tile: _Tile, kept: _Tile) -> bool:
    return (tile.path, tile.plane) == (kept.path, kept.plane)


def _left_out(first: Instance, tiles: Sequence[_Tile]) -> list[str]:
    notes = []
    paths = list(dict.fromkeys(tile.path for tile in tiles))
    if len(paths) > 1:
        others = ", ".join(shown(path) for path in paths[1:9])
        notes.append(
            f"{first.path}: of {len(paths)} optical paths only {shown(paths[0])} is read; left out: {others} "
            "(Optical Path Sequence (0048,0105)); send one as an object of its own"
        )
    planes = {tile.plane for tile in tiles}
    if len(planes) > 1:
        notes.append(
            f"{first.path}: of {len(planes)} focal planes only the first is read "
            "(Total Pixel Matrix Focal Planes (0048,0303))"
        )
    return notes


def _tiles(parts: Sequence[Instance], rows: int, columns: int) -> list[_Tile]:
    """The place of each frame, through all parts."""
    if text(parts[0].header, "DimensionOrganizationType") == "TILED_FULL":
        return _full_tiles(parts, rows, columns)
    return [_sparse_tile(part, frame) for part in parts for frame in range(part.frames)]


def _full_tiles(parts: Sequence[Instance], rows: int, columns: int) -> list[_Tile]:
    """All tiles are there, row by row, then by focal plane, then by optical path (PS3.3 C.7.6.17.3)."""
    first = parts[0]
    height, width = first.rows, first.columns
    places = [(row, column) for row in range(0, rows, height) for column in range(0, columns, width)]
    count = sum(part.frames for part in parts)
    layers = count // len(places)
    if layers * len(places) != count:
        raise GeometryError(
            f"{first.path}: {count} tiles are stored (Number of Frames (0028,0008)) where a matrix of {rows} x "
            f"{columns} in tiles of {height} x {width} has {len(places)} a layer; send the complete slide"
        )
    given = numbers(first.header, "TotalPixelMatrixFocalPlanes", 1)
    planes = int(given[0]) if given and given[0] >= 1 and layers % int(given[0]) == 0 else 1
    names = [text(item, "OpticalPathIdentifier") for item in value(first.header, "OpticalPathSequence") or ()]
    paths = (
        names if all(names) and len(set(names)) == layers // planes else [str(n + 1) for n in range(layers // planes)]
    )
    return [_Tile(row, column, path, plane) for path in paths for plane in range(planes) for row, column in places]


def _sparse_tile(part: Instance, frame: int) -> _Tile:
    item = functional_group(part.header, frame, "PlanePositionSlideSequence")
    row = numbers(item, "RowPositionInTotalImagePixelMatrix", 1)
    column = numbers(item, "ColumnPositionInTotalImagePixelMatrix", 1)
    if row is None or column is None:
        raise GeometryError(f"{part.path}: tile {frame + 1} has no PlanePositionSlideSequence (0048,021A)")
    path = functional_group(part.header, frame, "OpticalPathIdentificationSequence")
    plane = numbers(item, "ZOffsetInSlideCoordinateSystem", 1)
    return _Tile(int(row[0]) - 1, int(column[0]) - 1, text(path, "OpticalPathIdentifier"), plane[0] if plane else 0.0)
