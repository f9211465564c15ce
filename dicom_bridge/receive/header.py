"""What the receiver needs to know of an instance, read from its encoded header: its names, and what routes ask for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from typing import Any

from pydicom.charset import convert_encodings
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement, convert_raw_data_element
from pydicom.filereader import data_element_generator, read_partial
from pydicom.tag import BaseTag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    PrivateTransferSyntaxes,
)

_CHARACTER_SET = 0x00080005
_UIDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_TEXTS = ("Modality", "BodyPartExamined", "StudyDescription", "SeriesDescription", "ProtocolName")
_WANTED: list[BaseTag | int] = [_CHARACTER_SET, *(tag_for_keyword(name) or 0 for name in (*_UIDS, *_TEXTS))]
_UID_TAGS, _TEXT_TAGS = _WANTED[1 : 1 + len(_UIDS)], _WANTED[1 + len(_UIDS) :]
_PIXELS = 0x7FE00008  # the first of the elements that hold pixels
# A header is rarely longer; one that is longer is read from the whole instance.
_START_BYTES = 1 << 18
# Encodings that are not little endian, not as they are registered, or compressed as a whole (PS3.5 A).
_UNUSUAL = {DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, *PrivateTransferSyntaxes}

_Elements = dict[int, RawDataElement]
_Parser = Callable[[bytes], tuple[_Elements, str, bool]]
"""From bytes to the wanted elements, the transfer syntax, and whether the pixels were reached."""


@dataclass(frozen=True)
class Header:
    """Texts as they stand in the header, without padding; None where an attribute is absent or empty."""

    transfer_syntax_uid: str
    sop_class_uid: str | None
    instance_uid: str | None
    study_uid: str | None
    series_uid: str | None
    modality: str | None
    body_part: str | None
    study_description: str | None
    series_description: str | None
    protocol_name: str | None


def read_header(parts: Sequence[bytes | memoryview], transfer_syntax_uid: str | None = None) -> Header:
    """Read the header of an instance that is in memory, up to its pixels.

    Args:
        parts: a DICOM file (PS3.10) in pieces. Where the transfer syntax is given the first piece is preamble and file
            meta information, which need not be read again.
        transfer_syntax_uid: of the data set, where it is known.
    Raises:
        Exception: whatever pydicom's parser meets in a damaged header.
    """
    parse: _Parser = _of_file
    if transfer_syntax_uid is not None and transfer_syntax_uid not in _UNUSUAL:
        parts = parts[1:]
        parse = _of_data_set(transfer_syntax_uid)
    start, is_whole = _start(parts)
    try:
        elements, syntax, at_pixels = parse(start)
    except Exception:  # perhaps only because it is cut off here
        if is_whole:
            raise
        at_pixels = False
    if not at_pixels and not is_whole:
        elements, syntax, _ = parse(b"".join(parts))
    charset = _charset(elements.get(_CHARACTER_SET))
    uids = (_uid(elements.get(tag)) for tag in _UID_TAGS)
    texts = (_text(elements.get(tag), charset) for tag in _TEXT_TAGS)
    return Header(syntax, *uids, *texts)


def _start(parts: Sequence[bytes | memoryview]) -> tuple[bytes, bool]:
    """The first bytes, and whether they are all."""
    taken: list[bytes | memoryview] = []
    left = _START_BYTES
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


def _of_file(content: bytes) -> tuple[_Elements, str, bool]:
    at_pixels = _AtPixels()
    dataset = read_partial(BytesIO(content), at_pixels, specific_tags=_WANTED)
    elements: Any = {tag.real: dataset.get_item(tag) for tag in _WANTED if tag in dataset}
    return elements, str(dataset.file_meta.TransferSyntaxUID), at_pixels.is_there


def _of_data_set(syntax: str) -> _Parser:
    def parse(content: bytes) -> tuple[_Elements, str, bool]:
        at_pixels = _AtPixels()
        implicit = syntax == ImplicitVRLittleEndian
        found: Any = data_element_generator(BytesIO(content), implicit, True, at_pixels, specific_tags=_WANTED)
        return {raw.tag.real: raw for raw in found}, syntax, at_pixels.is_there

    return parse


def _uid(element: Any) -> str | None:
    value = None if element is None else element.value
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    return str(value).strip("\0 ") or None if value else None


def _charset(element: Any) -> tuple[str, ...]:
    value = None if element is None else element.value
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    if isinstance(value, str):
        value = value.split("\\")
    return tuple(str(name).strip("\0 ") for name in value or ())


def _text(element: Any, charset: tuple[str, ...]) -> str | None:
    if element is None or not element.value:
        return None
    if not isinstance(element, RawDataElement):
        return str(element.value).strip() or None
    return _decoded(element.tag.real, element.VR, element.value, charset)


@lru_cache(maxsize=4096)
def _decoded(tag: int, vr: str | None, value: bytes, charset: tuple[str, ...]) -> str | None:
    """A text; all instances of a series have the same."""
    raw = RawDataElement(BaseTag(tag), vr, len(value), value, 0, vr is None, True)
    element = convert_raw_data_element(raw, encoding=convert_encodings(list(charset) or None))
    return None if element.value is None else str(element.value).strip() or None
