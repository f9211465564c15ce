"""What the receiver needs to know of an instance, read from its encoded header: its names, and what routes ask for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from io import BytesIO
from typing import Any

from pydicom.charset import convert_encodings
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import data_element_generator, read_partial
from pydicom.tag import BaseTag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    PrivateTransferSyntaxes,
)

from dicom_bridge.routing import SeriesFacts
from dicom_bridge.series.facts import FACT_ATTRIBUTES, series_facts

_UIDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_EXPECTED = "NumberOfStudyRelatedInstances"
_UID_TAGS = [tag_for_keyword(name) or 0 for name in _UIDS]
_WANTED: list[BaseTag | int] = [*_UID_TAGS, *(tag_for_keyword(name) or 0 for name in (*FACT_ATTRIBUTES, _EXPECTED))]
_CHARACTER_SET = 0x00080005
_PIXELS = 0x7FE00008  # the first of the elements that hold pixels
# Few headers are longer than the first, and very few than the second; those are read from the whole instance.
_STARTS_BYTES = (1 << 15, 1 << 19)
# Encodings that are not little endian, not as they are registered, or compressed as a whole (PS3.5 A).
_UNUSUAL = {DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, *PrivateTransferSyntaxes}

_Read = tuple[Dataset, str, bool]
"""The wanted elements, not yet decoded; the transfer syntax; whether the pixels were reached."""


@dataclass(frozen=True)
class Header:
    """What a header says.

    Attributes:
        transfer_syntax_uid: of the data set.
        sop_class_uid, instance_uid, study_uid, series_uid: as they stand there; None where they are absent or empty.
        facts: of its series.
        expected: how many instances it says that its study has; None: it does not say.
    """

    transfer_syntax_uid: str
    sop_class_uid: str | None
    instance_uid: str | None
    study_uid: str | None
    series_uid: str | None
    facts: SeriesFacts
    expected: int | None


def read_header(
    parts: Sequence[bytes | memoryview],
    calling_ae: str | None,
    called_ae: str | None,
    transfer_syntax_uid: str | None = None,
) -> Header:
    """Read the header of an instance that is in memory, up to its pixels.

    Args:
        parts: a DICOM file (PS3.10) in pieces. Where the transfer syntax is given the first piece is preamble and file
            meta information, which need not be read again.
        calling_ae, called_ae: who sent it to whom, for the facts.
        transfer_syntax_uid: of the data set, where it is known.
    Raises:
        Exception: whatever pydicom's parser meets in a damaged header.
    """
    read = _read_file
    if transfer_syntax_uid is not None and transfer_syntax_uid not in _UNUSUAL:
        parts = parts[1:]
        read = partial(_read_data_set, syntax=transfer_syntax_uid)
    for size in _STARTS_BYTES:
        start, is_whole = _start(parts, size)
        try:
            header, syntax, at_pixels = read(start)
        except Exception:  # perhaps only because it is cut off here
            if is_whole:
                raise
            continue
        if at_pixels or is_whole:
            break
    else:
        header, syntax, _ = read(b"".join(parts))
    sop_class, instance, study, series = (_uid(header.get_item(tag)) if tag in header else None for tag in _UID_TAGS)
    facts, expected = _facts(header, calling_ae, called_ae)
    return Header(syntax, sop_class, instance, study, series, facts, expected)


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


def _read_file(content: bytes) -> _Read:
    at_pixels = _AtPixels()
    header = read_partial(BytesIO(content), at_pixels, specific_tags=_WANTED)
    return header, str(header.file_meta.TransferSyntaxUID), at_pixels.is_there


def _read_data_set(content: bytes, syntax: str) -> _Read:
    at_pixels = _AtPixels()
    is_implicit = syntax == ImplicitVRLittleEndian
    elements: Any = data_element_generator(BytesIO(content), is_implicit, True, at_pixels, specific_tags=_WANTED)
    header = Dataset({element.tag: element for element in elements})
    header.set_original_encoding(is_implicit, True, _encodings(header))
    return header, syntax, at_pixels.is_there


def _encodings(header: Dataset) -> list[str]:
    names = header.get(_CHARACTER_SET)
    return convert_encodings(None if names is None else names.value)


def _uid(element: Any) -> str | None:
    value = element.value
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    return str(value).strip("\0 ") or None if value else None


def _facts(header: Dataset, calling_ae: str | None, called_ae: str | None) -> tuple[SeriesFacts, int | None]:
    elements: list[Any] = [
        header.get_item(tag) for tag in _WANTED[len(_UID_TAGS) :] if tag in header and tag != _CHARACTER_SET
    ]
    if not all(isinstance(element, RawDataElement) for element in elements):
        return _decoded(header, calling_ae, called_ae)
    charset = header.get(_CHARACTER_SET)
    names = () if charset is None or not charset.value else charset.value
    told = tuple((e.tag.real, e.VR, e.value, e.is_implicit_VR, e.is_little_endian) for e in elements)
    return _shared_facts(told, (names,) if isinstance(names, str) else tuple(names), calling_ae, called_ae)


@lru_cache(maxsize=1024)
def _shared_facts(
    told: tuple[tuple[int, str | None, bytes, bool, bool], ...],
    charset: tuple[str, ...],
    calling_ae: str | None,
    called_ae: str | None,
) -> tuple[SeriesFacts, int | None]:
    """Facts as they are encoded to facts; all instances of a series have the same, so they are decoded once."""
    header = Dataset(
        {
            BaseTag(tag): RawDataElement(BaseTag(tag), vr, len(value or b""), value, 0, is_implicit, is_little)
            for tag, vr, value, is_implicit, is_little in told
        }
    )
    header.set_original_encoding(told[0][3] if told else True, True, convert_encodings(list(charset) or None))
    return _decoded(header, calling_ae, called_ae)


def _decoded(header: Dataset, calling_ae: str | None, called_ae: str | None) -> tuple[SeriesFacts, int | None]:
    expected = str(header.get(_EXPECTED)).strip()
    is_number = expected.isascii() and expected.isdecimal() and 0 < int(expected) < 1_000_000
    return series_facts(header, calling_ae, called_ae), int(expected) if is_number else None
