"""How large the pixels of an instance are, by a look at its header: nothing is decoded, little is kept."""

from __future__ import annotations

import mmap
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydicom.config import disable_value_validation
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from dicom_bridge.series.headers.deflated import inflated
from dicom_bridge.series.headers.instance import numbers
from dicom_bridge.series.headers.peeking import HeaderLook, declared_encoding, deflated_data_set

_KEYWORDS = (
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel"),
    *("TotalPixelMatrixRows", "TotalPixelMatrixColumns"),
)
_LOOK = HeaderLook(tag_for_keyword(keyword) or 0 for keyword in _KEYWORDS)
_SEARCHED_BYTES = 1 << 12


@dataclass(frozen=True)
class PixelExtent:
    """What an instance holds, as its header tells; all 0 where it tells nothing that can be used.

    Attributes:
        voxels: numbers that its pixels are once decoded, of all frames and channels.
        slice_pixels: the same of the largest picture that is looked at as one: a frame, or all tiles put together.
        stored_bytes: of the file, inflated where it is deflated.
        is_deflated: whether it is.
    """

    voxels: int = 0
    slice_pixels: int = 0
    stored_bytes: int = 0
    is_deflated: bool = False


def pixel_extent(path: Path, most_bytes: int) -> PixelExtent:
    """Look at a file; one that can't be read has no extent, and whoever reads it says why.

    Args:
        path: of the file.
        most_bytes: a deflated data set is inflated until it is larger, and not any further.
    """
    try:
        with _mapped(path) as content:
            size, is_deflated = _stored_bytes(content, most_bytes)
            elements = _elements(content)
    except (OSError, ValueError, zlib.error):  # ValueError: an empty file
        return PixelExtent()
    raw = [element for element in elements.values() if isinstance(element, RawDataElement)]
    encoded = tuple((e.tag.real, e.VR, e.value, e.is_implicit_VR, e.is_little_endian) for e in raw)
    return PixelExtent(*_sizes(encoded), size, is_deflated)


def _stored_bytes(content: memoryview, most_bytes: int) -> tuple[int, bool]:
    pieces = None
    with suppress(Exception):  # damaged file meta information, with which the receiver takes nothing
        pieces = deflated_data_set([content])
    if pieces is None:
        return len(content), False
    size = 0
    for piece in inflated(pieces):
        size += len(piece)
        if size > most_bytes:
            break
    return size, True


def _elements(content: memoryview) -> Mapping[int, Any]:
    """What is looked for, as it is encoded; nothing where the header can't be parsed."""
    with suppress(Exception):  # a damaged header raises nearly anything; the slower way copes with more
        syntax, data_set = declared_encoding(bytes(content[:_SEARCHED_BYTES]))
        if syntax is not None:
            return _LOOK.elements([content[:data_set], content[data_set:]], syntax)[0]
    with suppress(Exception), warnings.catch_warnings(), disable_value_validation():
        warnings.simplefilter("ignore")
        return _LOOK.elements([content])[0]
    return {}


@lru_cache(maxsize=1024)
def _sizes(elements: tuple[tuple[int, str | None, bytes | None, bool, bool], ...]) -> tuple[int, int]:
    """Voxels, and pixels of the largest picture, of encoded elements: the slices of a series have the same."""
    header = Dataset(
        {
            BaseTag(tag): RawDataElement(BaseTag(tag), vr, len(value or b""), value, 0, is_implicit, is_little)
            for tag, vr, value, is_implicit, is_little in elements
        }
    )
    rows, columns, frames, samples = (
        max(1, int((numbers(header, keyword, 1) or (1,))[0])) for keyword in _KEYWORDS[:4]
    )
    whole_rows, whole_columns = (int((numbers(header, keyword, 1) or (0,))[0]) for keyword in _KEYWORDS[4:])
    picture = max(rows * columns, whole_rows * whole_columns) * samples
    return max(rows * columns * samples * frames, picture), picture


@contextmanager
def _mapped(path: Path) -> Iterator[memoryview]:
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        content = memoryview(mapped)
        try:
            yield content
        finally:
            content.release()
