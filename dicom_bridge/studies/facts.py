"""What routing knows of a series, read from the header of one of its instances."""

from __future__ import annotations

from pydicom.dataset import Dataset

from dicom_bridge.studies.priority import PRIORITY_ATTRIBUTES, requested_priority
from dicom_bridge.studies.routing import SeriesFacts

FACT_ATTRIBUTES = (
    "SpecificCharacterSet",
    "Modality",
    "StudyDescription",
    "SeriesDescription",
    "BodyPartExamined",
    "ProtocolName",
    *PRIORITY_ATTRIBUTES,
)


def series_facts(header: Dataset, calling_ae: str | None, called_ae: str | None) -> SeriesFacts:
    """Make facts of a header that holds `FACT_ATTRIBUTES`, as far as the instance has them."""
    return SeriesFacts(
        modality=_text(header, "Modality"),
        body_part=_text(header, "BodyPartExamined"),
        study_description=_text(header, "StudyDescription"),
        series_description=_text(header, "SeriesDescription"),
        protocol_name=_text(header, "ProtocolName"),
        calling_ae=calling_ae,
        called_ae=called_ae,
        priority=requested_priority(header),
    )


def _text(header: Dataset, name: str) -> str | None:
    value = header.get(name)
    return None if value is None else str(value).strip() or None
