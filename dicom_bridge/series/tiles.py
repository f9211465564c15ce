"""Tiled slides: frames put together to the total pixel matrix (PS3.3 C.7.6.17.3, C.8.12.4)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from highdicom.spatial import is_tiled_image, iter_tiled_full_frame_data
from numpy.typing import NDArray

from dicom_bridge.series.instance import MAX_PIXEL_BYTES, Instance, functional_group, numbers, text
from rcmed.errors import GeometryError


def is_tiled(instance: Instance) -> bool:
    """Whether the frames are tiles of one picture."""
    return bool(is_tiled_image(instance.header))


def assemble_tiles(instance: Instance, frames: Iterator[NDArray[Any]]) -> NDArray[Any]:
    """Put tiles (row, column[, 3]) into one picture; of several focal planes or optical paths the first is kept.

    Raises:
        GeometryError: the matrix is too large or a tile has no place in it.
    """
    header = instance.header
    matrix = [numbers(header, keyword, 1) for keyword in ("TotalPixelMatrixRows", "TotalPixelMatrixColumns")]
    rows, columns = (int(length[0]) if length else 0 for length in matrix)
    if not 0 < rows * columns * 3 <= MAX_PIXEL_BYTES // 4:
        raise GeometryError(
            f"{instance.path}: a total pixel matrix of {rows} x {columns} can't be read at once; "
            "give a level of lower resolution"
        )
    canvas: NDArray[Any] | None = None
    filled = np.zeros((rows, columns), dtype=bool)
    for (row, column), tile in zip(_tile_places(instance), frames, strict=False):
        if canvas is None:
            # Tiles that were not stored are empty glass: the brightest value.
            bright = 255 if tile.ndim == 3 else int(np.iinfo(tile.dtype).max)
            canvas = np.full((rows, columns, *tile.shape[2:]), bright, dtype=tile.dtype)
        if not (0 <= row < rows and 0 <= column < columns):
            raise GeometryError(f"{instance.path}: a tile at row {row + 1}, column {column + 1} is outside the matrix")
        height, width = min(tile.shape[0], rows - row), min(tile.shape[1], columns - column)
        if filled[row, column]:
            continue
        canvas[row : row + height, column : column + width] = tile[:height, :width]
        filled[row, column] = True
    if canvas is None:
        raise GeometryError(f"{instance.path}: the slide holds no tile")
    return canvas


def _tile_places(instance: Instance) -> Iterator[tuple[int, int]]:
    """Row and column (from 0) of each tile's first pixel."""
    header = instance.header
    if text(header, "DimensionOrganizationType") == "TILED_FULL":
        for _, _, column, row, *_ in itertools.islice(iter_tiled_full_frame_data(header), instance.frames):
            yield row - 1, column - 1
        return
    for frame in range(instance.frames):
        item = functional_group(header, frame, "PlanePositionSlideSequence")
        row_found = numbers(item, "RowPositionInTotalImagePixelMatrix", 1)
        column_found = numbers(item, "ColumnPositionInTotalImagePixelMatrix", 1)
        if row_found is None or column_found is None:
            raise GeometryError(f"{instance.path}: tile {frame + 1} has no PlanePositionSlideSequence (0048,021A)")
        yield int(row_found[0]) - 1, int(column_found[0]) - 1
