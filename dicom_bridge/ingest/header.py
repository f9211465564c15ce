"""What the receiver needs to know of an instance, read from its encoded header: its names, and what routes ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pydicom.charset import convert_encodings
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from dicom_bridge.series.headers.peeking import HeaderLook, uid_text
from dicom_bridge.store.study_facts import STUDY_ATTRIBUTES, StudyFacts, study_facts
from dicom_bridge.studies.facts import FACT_ATTRIBUTES, series_facts
from dicom_bridge.studies.routing import SeriesFacts

_UIDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_EXPECTED = "NumberOfStudyRelatedInstances"
_UID_TAGS = [tag_for_keyword(name) or 0 for name in _UIDS]
_WANTED = [tag_for_keyword(name) or 0 for name in (*FACT_ATTRIBUTES, *STUDY_ATTRIBUTES, _EXPECTED)]
_CHARACTER_SET = 0x00080005
_FACT_TAGS = sorted(set(_WANTED) - {_CHARACTER_SET})
_LOOK = HeaderLook([*_UID_TAGS, *_WANTED])

_Decoded = tuple[SeriesFacts, int | None, StudyFacts]


@dataclass(frozen=True)
class Header:
    """What a header says.

    Attributes:
        transfer_syntax_uid: of the data set.
        sop_class_uid, instance_uid, study_uid, series_uid: as they stand there; None where they are absent or empty.
        facts: of its series.
        expected: how many instances it says that its study has; None: it does not say.
        study: what people know its study by.
    """

    transfer_syntax_uid: str
    sop_class_uid: str | None
    instance_uid: str | None
    study_uid: str | None
    series_uid: str | None
    facts: SeriesFacts
    expected: int | None
    study: StudyFacts = StudyFacts()


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
        InputError: a deflated data set is inflated beyond what a header may have, and comes to no pixels.
        Exception: whatever pydicom's parser meets in a damaged header.
    """
    elements, syntax = _LOOK.elements(parts, transfer_syntax_uid)
    sop_class, instance, study, series = (
        uid_text(elements[tag].value) if tag in elements else None for tag in _UID_TAGS
    )
    facts, expected, of_study = _facts(elements, calling_ae, called_ae)
    return Header(syntax, sop_class, instance, study, series, facts, expected, of_study)


def _facts(elements: Mapping[int, Any], calling_ae: str | None, called_ae: str | None) -> _Decoded:
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
) -> _Decoded:
    """Facts as they are encoded to facts; all instances of a series have the same, so they are decoded once."""
    header = Dataset(
        {
            BaseTag(tag): RawDataElement(BaseTag(tag), vr, len(value or b""), value, 0, is_implicit, is_little)
            for tag, vr, value, is_implicit, is_little in told
        }
    )
    header.set_original_encoding(told[0][3] if told else True, True, convert_encodings(list(charset) or None))
    return _decoded(header, calling_ae, called_ae)


def _decoded(header: Dataset, calling_ae: str | None, called_ae: str | None) -> _Decoded:
    expected = str(header.get(_EXPECTED)).strip()
    is_number = expected.isascii() and expected.isdecimal() and 0 < int(expected) < 1_000_000
    return series_facts(header, calling_ae, called_ae), int(expected) if is_number else None, study_facts(header)
