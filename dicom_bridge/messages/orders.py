"""The orders that a study was made for, as its instances name them: what an information system finds the study by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from dicom_bridge.series.headers.instance import text, value
from rcmed.errors import UnreadableFileError

_SEQUENCES = ("RequestAttributesSequence", "ReferencedRequestSequence")
_NUMBERS = (
    *("PlacerOrderNumberImagingServiceRequest", "FillerOrderNumberImagingServiceRequest"),
    *("RequestedProcedureID", "ScheduledProcedureStepID", "AccessionNumber"),
)


@dataclass(frozen=True)
class OrderNumbers:
    """Numbers of an imaging order; "" where no instance tells.

    Attributes:
        placer: (0040,2016), of whoever ordered.
        filler: (0040,2017), of the department that made the images.
        requested_procedure: (0040,1001).
        scheduled_step: (0040,0009).
        accession: (0008,0050).
    """

    placer: str = ""
    filler: str = ""
    requested_procedure: str = ""
    scheduled_step: str = ""
    accession: str = ""


def read_orders(path: Path) -> OrderNumbers:
    """The order numbers of an instance: of its root, else of the first item of its requests that has one.

    Raises:
        UnreadableFileError: the file is gone or is no DICOM.
    """
    try:
        header = dcmread(path, stop_before_pixels=True, force=True, specific_tags=[*_NUMBERS, *_SEQUENCES])
    except (OSError, InvalidDicomError, EOFError) as error:
        raise UnreadableFileError(f"{path}: can't be read again for the message: {error}") from error
    places = [header, *_requests(header)]
    found = (next((number for place in places if (number := text(place, keyword))), "") for keyword in _NUMBERS)
    return OrderNumbers(*found)


def _requests(header: Dataset) -> Iterator[Dataset]:
    for keyword in _SEQUENCES:
        yield from value(header, keyword) or ()
