"""A look at an encoded header for a few of its elements: no further than to the pixels, and little is inflated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from io import BytesIO
from typing import Any

from pydicom.filereader import data_element_generator, read_partial
from pydicom.tag import BaseTag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    PrivateTransferSyntaxes,
)

from dicom_bridge.series.headers.deflated import InflatedStart
from dicom_bridge.series.headers.skimming import skim
from rcmed.errors import InputError

_PIXELS = 0x7FE00008  # the first of the elements that hold pixels
# Few headers are longer than the first, and very few than the second; those are read from the whole instance.
_STARTS_BYTES = (1 << 15, 1 << 19)
# No header is as long; what a few deflated kB stand for has no limit.
_LONGEST_INFLATED = 1 << 26
_SEARCHED_BYTES = 1 << 12
_PREAMBLE_BYTES, _META_BYTES = 132, 144
_TRANSFER_SYNTAX = 0x00020010
# Encodings that are not little endian, or not as they are registered (PS3.5 A).
_UNUSUAL = {ExplicitVRBigEndian, *PrivateTransferSyntaxes}

_Read = tuple[Mapping[int, Any], str, bool]
"""The wanted elements, decoded where pydicom does so at once; the transfer syntax; whether the pixels were reached."""


class HeaderLook:
    """Looks for the elements of these tags."""

    def __init__(self, tags: Iterable[int]) -> None:
        """Prepare."""
        self._tags: list[BaseTag | int] = list(tags)
        self._skimmed = frozenset(map(int, self._tags))

    def elements(
        self, parts: Sequence[bytes | memoryview], transfer_syntax_uid: str | None = None
    ) -> tuple[Mapping[int, Any], str]:
        """The elements that are there, by tag, and the transfer syntax.

        Args:
            parts: a DICOM file (PS3.10) in pieces. Where the transfer syntax is given the first piece is preamble and
                file meta information, which need not be read again.
            transfer_syntax_uid: of the data set, where it is known.
        Raises:
            InputError: a deflated data set is inflated beyond what a header may have, and comes to no pixels.
            Exception: whatever pydicom's parser meets in a damaged header.
        """
        deflated = deflated_data_set(parts, transfer_syntax_uid)
        if deflated is not None:
            return self._look_into_deflated(InflatedStart(deflated))
        read = self._read_file
        if transfer_syntax_uid is not None and transfer_syntax_uid not in _UNUSUAL:
            parts = parts[1:]
            read = partial(self._read_data_set, syntax=transfer_syntax_uid)
        for size in _STARTS_BYTES:
            start, is_whole = _start(parts, size)
            try:
                elements, syntax, at_pixels = read(start)
            except Exception:  # perhaps only because it is cut off here
                if is_whole:
                    raise
                continue
            if at_pixels or is_whole:
                break
        else:
            elements, syntax, _ = read(b"".join(parts))
        return elements, syntax

    def _look_into_deflated(self, data_set: InflatedStart) -> tuple[Mapping[int, Any], str]:
        for size in (*_STARTS_BYTES, _LONGEST_INFLATED):
            content = data_set.first(size)
            try:
                elements, _, at_pixels = self._read_data_set(content, ExplicitVRLittleEndian)
            except Exception:  # perhaps only because it is cut off here
                if data_set.is_whole:
                    raise
                continue
            if at_pixels or data_set.is_whole:
                return elements, DeflatedExplicitVRLittleEndian
        raise InputError(
            f"the deflated data set has more than {_LONGEST_INFLATED} bytes before Pixel Data (7FE0,0010): "
            "no header is as long; send it uncompressed or mend it"
        )

    def _read_file(self, content: bytes) -> _Read:
        at_pixels = _AtPixels()
        header = read_partial(BytesIO(content), at_pixels, specific_tags=self._tags)
        elements = {int(tag): header.get_item(tag) for tag in self._tags if tag in header}
        return elements, str(header.file_meta.TransferSyntaxUID), at_pixels.is_there

    def _read_data_set(self, content: bytes, syntax: str) -> _Read:
        is_implicit = syntax == ImplicitVRLittleEndian
        skimmed = skim(content, is_implicit, self._skimmed, _PIXELS)
        if skimmed is not None:
            return skimmed, syntax, True
        at_pixels = _AtPixels()
        elements = data_element_generator(BytesIO(content), is_implicit, True, at_pixels, specific_tags=self._tags)
        return {int(element.tag): element for element in elements}, syntax, at_pixels.is_there


def deflated_data_set(
    parts: Sequence[bytes | memoryview], transfer_syntax_uid: str | None = None
) -> Iterator[bytes | memoryview] | None:
    """The pieces of the data set of a file where it is deflated; None where it is not. Arguments as `elements`."""
    if transfer_syntax_uid is not None:
        return iter(parts[1:]) if transfer_syntax_uid == DeflatedExplicitVRLittleEndian else None
    start, _ = _start(parts, _SEARCHED_BYTES)
    if DeflatedExplicitVRLittleEndian.encode() not in start:
        return None
    syntax, data_set = declared_encoding(start)
    return _behind(parts, data_set) if syntax == DeflatedExplicitVRLittleEndian else None


def declared_encoding(start: bytes) -> tuple[str | None, int]:
    """The transfer syntax that the beginning of a file tells, and where its data set begins (PS3.10 7.1).

    Raises:
        Exception: whatever pydicom's parser meets in damaged file meta information.
    """
    # The group length is the first element, and tells how long the others are.
    data_set = _META_BYTES + int.from_bytes(start[_META_BYTES - 4 : _META_BYTES], "little")
    elements = data_element_generator(BytesIO(start[_PREAMBLE_BYTES:data_set]), False, True)
    meta = {element.tag.real: element.value for element in elements}
    return uid_text(meta.get(_TRANSFER_SYNTAX)), data_set


def uid_text(value: Any) -> str | None:
    """A UID as it is encoded or decoded, without what pads it; None where it is empty."""
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    return str(value).strip("\0 ") or None if value else None


def _behind(parts: Sequence[bytes | memoryview], skipped: int) -> Iterator[memoryview]:
    for part in parts:
        yield memoryview(part)[skipped:]
        skipped = max(0, skipped - len(part))


def _start(parts: Sequence[bytes | memoryview], left: int) -> tuple[bytes, bool]:
    """The first bytes, and whether they are all."""
    taken: list[bytes | memoryview] = []
    for part in parts:
        taken.append(memoryview(part)[:left])
        left -= len(part)
        if left < 0:
            return b"".join(taken), False
    return b"".join(taken), True


class _AtPixels:
    """Stops the parser at the pixels, and knows whether it came so far."""

    def __init__(self) -> None:
        self.is_there = False

    def __call__(self, tag: BaseTag, vr: str | None, length: int) -> bool:
        self.is_there = tag.real >= _PIXELS  # as plain integers: pydicom's comparison of tags is slow
        return self.is_there
