"""What every archive does that studies are fetched from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pydicom.datadict import tag_for_keyword

from rcmed.errors import InputError, RCMedError

Take = Callable[[Sequence[bytes | memoryview]], None]
"""Takes a DICOM file (PS3.10), in pieces."""

ATTRIBUTES = {
    "Modality": "ModalitiesInStudy",
    "ModalitiesInStudy": "ModalitiesInStudy",
    "StudyDate": "StudyDate",
    "StudyTime": "StudyTime",
    "StudyDescription": "StudyDescription",
    "AccessionNumber": "AccessionNumber",
    "PatientID": "PatientID",
    "StudyID": "StudyID",
    "StudyInstanceUID": "StudyInstanceUID",
}
"""What a query may name -> the attribute of the study that is asked for (PS3.4 C.6.2.1.2)."""


class SourceUnavailableError(RCMedError):
    """The archive does not answer, or did not bring all: the same can be asked again later."""


@dataclass(frozen=True)
class RemoteSeries:
    """A series of an archive.

    Attributes:
        series_uid: of it.
        modality: "" where the archive does not say.
        instances: SOP Instance UID -> SOP Class UID ("" where the archive does not say).
    """

    series_uid: str
    modality: str
    instances: Mapping[str, str]


class Source(Protocol):
    """An archive that is asked for studies."""

    @property
    def name(self) -> str:
        """Under which it is configured."""
        ...

    def studies(self, query: Mapping[str, str]) -> Iterator[str]:
        """Study Instance UIDs of what meets every condition.

        Args:
            query: keyword of `ATTRIBUTES` -> value as in C-FIND: with wild cards, dates as ranges.
        Raises:
            SourceUnavailableError: no answer.
        """
        ...

    def series(self, study_uid: str) -> Iterable[RemoteSeries]:
        """The series of a study, with their instances.

        Raises:
            SourceUnavailableError: no answer.
        """
        ...

    def fetch(self, study_uid: str, series: RemoteSeries, missing: Sequence[str], take: Take) -> None:
        """Have at least the missing instances of a series brought: to `take`, or to our DICOM port.

        Raises:
            SourceUnavailableError: it broke off; what came is kept.
        """
        ...

    def check(self) -> str:
        """Ask whether it is there; returns one line on what answered.

        Raises:
            SourceUnavailableError: it is not.
        """
        ...


def parse_query(text: str) -> dict[str, str]:
    """`Modality=CT,StudyDate=20260101-20260201` as conditions.

    Raises:
        InputError: not of this form, an attribute that can't be asked for, or no condition at all.
    """
    query: dict[str, str] = {}
    for part in text.split(","):
        keyword, sign, value = (piece.strip() for piece in part.partition("="))
        if not sign or not keyword or not value:
            raise InputError(f"query {text!r}: {part!r} must be ATTRIBUTE=VALUE, for example Modality=CT")
        query[keyword] = value
    return checked_query(query)


def checked_query(query: Mapping[str, str]) -> dict[str, str]:
    """A query whose attributes can be asked for.

    Raises:
        InputError: one can't, or there is no condition.
    """
    if not query:
        raise InputError("the query has no condition: give one, for example StudyDate=20260101-20260201")
    for keyword, value in query.items():
        if keyword not in ATTRIBUTES:
            known = ", ".join(ATTRIBUTES)
            unknown = "" if tag_for_keyword(keyword) is None else ", which can't be asked for at the level of studies"
            raise InputError(f"query: attribute {keyword!r}{unknown}: use one of {known}")
        if not isinstance(value, str) or not value or len(value) > 64 or any(ord(c) < 32 or c == "\\" for c in value):
            raise InputError(f"query: {keyword} needs a value of 1 to 64 characters without a backslash")
    return dict(query)
