"""What the receiver needs to know of an instance, read from its encoded header: its names, and what routes ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

from dicom_bridge.receive.skimming import skim
from dicom_bridge.routing import SeriesFacts
from dicom_bridge.series.facts import FACT_ATTRIBUTES, series_facts

_UIDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_EXPECTED = "NumberOfStudyRelatedInstances"
_UID_TAGS = [tag_for_keyword(name) or 0 for name in _UIDS]
_WANTED: list[BaseTag | int] = [*_UID_TAGS, *(tag_for_keyword(name) or 0 for name in (*FACT_ATTRIBUTES, _EXPECTED))]
_CHARACTER_SET = 0x00080005
_FACT_TAGS = sorted({int(tag) for tag in _WANTED[len(_UID_TAGS) :]} - {_CHARACTER_SET})
_SKIMMED = frozenset(map(int, _WANTED))
_PIXELS = 0x7FE00008  # the first of the elements that hold pixels
# Few headers are longer than the first, and very few than the second; those are read from the whole instance.
_STARTS_BYTES = (1 << 15, 1 << 19)
# Encodings that are not little endian, not as they are registered, or compressed as a whole (PS3.5 A).
_UNUSUAL = {DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, *PrivateTransferSyntaxes}

_Read = tuple[Mapping[int, Any], str, bool]
"""The wanted elements, decoded where pydicom does so at once; the transfer syntax; whether the pixels were reached."""


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
            elements, syntax, at_pixels = read(start)
        except Exception:  # perhaps only because it is cut off here
            if is_whole:
                raise
            continue
        if at_pixels or is_whole:
            break
    else:
        elements, syntax, _ = read(b"".join(parts))
    sop_class, instance, study, series = (_uid(elements[tag]) if tag in elements else None for tag in _UID_TAGS)
    facts, expected = _facts(elements, calling_ae, called_ae)
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
    elements = {int(tag): header.get_item(tag) for tag in _WANTED if tag in header}
    return elements, str(header.file_meta.TransferSyntaxUID), at_pixels.is_there


def _read_data_set(content: bytes, syntax: str) -> _Read:
    is_implicit = syntax == ImplicitVRLittleEndian
    skimmed = skim(content, is_implicit, _SKIMMED, _PIXELS)
    if skimmed is not None:
        return skimmed, syntax, True
    at_pixels = _AtPixels()
    elements = data_element_generator(BytesIO(content), is_implicit, True, at_pixels, specific_tags=_WANTED)
    return {int(element.tag): element for element in elements}, syntax, at_pixels.is_there


def _uid(element: Any) -> str | None:
    value = element.value
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    return str(value).strip("\0 ") or None if value else None


def _facts(
    elements: Mapping[int, Any], calling_ae: str | None, called_ae: str | None
) -> tuple[SeriesFacts, int | None]:
    charset = _names(elements.get(_CHARACTER_SET))
    facts = [elements[tag] for tag in _FACT_TAGS if tag in elements]
    if all(isinstance(element, RawDataElement) for element in facts):
        told = tuple((e.tag.real, e.VR, e.value, e.is_implicit_VR, e.is_little_endian) for e in facts)
        return _shared_facts(told, charset, calling_ae, called_ae)
    header = Dataset({element.tag: element for element in facts})
    header.set_original_encoding(False, True, convert_encodings(list(charset) or None))
    return _decoded(header, calling_ae, called_ae)


def _names(charset: Any) -> tuple[str, ...]:
    """The values of Specific Character Set (0008,0005)."""
    value = None if charset is None else charset.value
    if isinstance(value, bytes):
        value = value.decode("latin-1").split("\\")
    names = (value,) if isinstance(value, str) else value or ()
    return tuple(name.strip("\0 ") for name in names)


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
