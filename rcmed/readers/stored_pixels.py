"""Pixels as files store them: how many are read at all, and colour to the RGB that an `Image` holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcmed.errors import UnreadableFileError

MAX_VOXELS = 2**30
"""Largest image that is read, in voxels; a header that announces more is refused before anything is allocated."""

# Depths of cameras and scanners, right-aligned in 16 bits. A picture whose brightest value is no higher would be black.
_DEPTHS = (8, 10, 12)


def require_size(path: Path, shape: tuple[int, ...]) -> None:
    """Refuse a size that is empty or too large to be read.

    Raises:
        UnreadableFileError: naming the file.
    """
    voxels = int(np.prod([int(length) for length in shape], dtype=object)) if shape else 0
    if voxels < 1 or voxels > MAX_VOXELS:
        raise UnreadableFileError(f"{path}: a size of {shape} is empty or above the limit of {MAX_VOXELS} voxels")


def to_rgb8(path: Path, colour: NDArray[Any]) -> NDArray[np.uint8]:
    """Colour (..., samples) to RGB uint8: alpha dropped, 16 bits scaled to 8, and so are 12 that lie in 16.

    Raises:
        UnreadableFileError: samples that are neither uint8 nor uint16.
    """
    colour = colour[..., :3]
    if colour.dtype == np.uint8:
        return np.ascontiguousarray(colour)
    if colour.dtype == np.uint16:
        top = 2 ** used_bits(colour) - 1
        return np.ascontiguousarray((colour.astype(np.uint32) * 255 + top // 2) // top).astype(np.uint8)
    raise UnreadableFileError(f"{path}: colour of type {colour.dtype} can't be read; save it with 8 bits a channel")


def used_bits(colour: NDArray[Any]) -> int:
    """How many bits of uint8 or uint16 colour (..., samples) hold brightness: 8, 10, 12 or 16; alpha does not count."""
    if colour.dtype != np.uint16:
        return 8
    highest = int(colour[..., :3].max(initial=0))
    return next((bits for bits in _DEPTHS if 0 < highest < 2**bits), 16)


def unused_bits_note(path: Path, colour: NDArray[Any]) -> tuple[str, ...]:
    """A line where colour of 16 bits is read as of fewer, which nothing in the file says; else none."""
    if colour.dtype != np.uint16 or used_bits(colour) == 16:
        return ()
    highest = int(colour[..., :3].max(initial=0))
    return (f"{path}: colour of 16 bits whose highest value is {highest}; read as {used_bits(colour)} bits",)


def grey_or_rgb8(path: Path, voxels: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Voxels of a NIfTI file in the given shape (first, second, third), with RGB uint8 behind it where coloured.

    Raises:
        UnreadableFileError: complex numbers, whose real part or magnitude nobody asked for.
    """
    if voxels.dtype.kind == "c":
        raise UnreadableFileError(
            f"{path}: complex numbers (datatype {voxels.dtype}) are no picture; save the magnitude"
        )
    if voxels.dtype.names is not None:
        return to_rgb8(path, np.stack([voxels[name] for name in voxels.dtype.names], axis=-1).reshape(*shape, -1))
    if voxels.dtype == np.float64:
        voxels = voxels.astype(np.float32)  # nibabel scales in float64; no scanner has that precision
    return voxels.reshape(shape)
