"""What people know a study by: accession number, date, patient's name; and how a search compares it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from pydicom.dataset import Dataset
from sqlalchemy import select

from dicom_bridge.store.database import Database
from dicom_bridge.store.tables import StudyRow

_LONGEST = 324  # of a PN: three groups of 64 characters with their delimiters are far less


@dataclass(frozen=True)
class StudyFacts:
    """What an instance tells of its study, beside its description; None where it is absent, empty or unreadable.

    Attributes:
        accession_number: (0008,0050).
        study_date: (0008,0020), as YYYY-MM-DD.
        patient_name: (0010,0010).
    """

    accession_number: str | None = None
    study_date: str | None = None
    patient_name: str | None = None

    @property
    def anonymous(self) -> StudyFacts:
        """The same without the patient."""
        return replace(self, patient_name=None)


STUDY_ATTRIBUTES = ("AccessionNumber", "StudyDate", "PatientName")


def study_facts(header: Dataset) -> StudyFacts:
    """Make facts of a header that holds `STUDY_ATTRIBUTES`, as far as the instance has them."""
    return StudyFacts(_text(header, "AccessionNumber"), _date(header), _text(header, "PatientName"))


def searched_text(study_uid: str, description: str | None, facts: StudyFacts) -> str:
    """What a search looks at: every value casefolded, dates with and without hyphens."""
    date = facts.study_date or ""
    values = (facts.accession_number, description, date, date.replace("-", ""), study_uid, facts.patient_name)
    return " ".join(value for value in map(_plain, values) if value)


def search_words(text: str) -> list[str]:
    """The words of a search as `searched_text` has them; a study is found by all of them.

    Commas around them are left out, so that "Doe, Jane", as a name is shown, finds Doe^Jane.
    """
    return [word for word in (word.strip(",") for word in _plain(text).split()) if word]


def forget_patient_names(database: Database) -> int:
    """Take patients' names out of the index, where they are not to be kept any more; returns of how many studies."""
    with database.writing() as session:
        named = list(session.scalars(select(StudyRow).where(StudyRow.patient_name.is_not(None)).with_for_update()))
        for row in named:
            row.patient_name = None
            row.searched = searched_text(
                row.study_uid, row.description, StudyFacts(row.accession_number, row.study_date)
            )
    return len(named)


def _plain(text: str | None) -> str:
    # The components of a name are parted by what nobody types.
    return re.sub(r"[\^=\s\x00]+", " ", text or "").strip().casefold()


def _text(header: Dataset, name: str) -> str | None:
    try:
        value = header.get(name)
        text = "" if value is None else str(value)
    except Exception:  # pydicom raises whatever its parser met; what only people look at refuses no instance
        return None
    return re.sub(r"[\x00-\x1f\x7f]+", " ", text)[:_LONGEST].strip() or None


def _date(header: Dataset) -> str | None:
    # YYYY.MM.DD is how ACR-NEMA wrote it (PS3.5 6.2, DA).
    parts = re.fullmatch(r"(\d{4})[.-]?(\d{2})[.-]?(\d{2})", _text(header, "StudyDate") or "")
    return None if parts is None else "-".join(parts.groups())
