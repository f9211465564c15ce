"""What the messages of one image are made of, whatever their form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from dicom_bridge.messages.orders import OrderNumbers, read_orders
from dicom_bridge.results.codes import PRESENCE as SAID_OF_FINDINGS
from dicom_bridge.results.identifiers import ResultIdentifiers
from dicom_bridge.results.sources.source import read_source
from dicom_bridge.value_representation import as_date
from rcmed.codes import Code
from rcmed.findings import Findings, FindingStatus
from rcmed.image import Image


def _code(coded: object) -> Code:
    return Code(coded.value, coded.scheme_designator, coded.meaning)  # type: ignore[attr-defined]


PRESENCE: Mapping[FindingStatus, Code] = {status: _code(coded) for status, coded in SAID_OF_FINDINGS.items()}
"""What is said of a finding, as in the structured report; nothing of a prompt that was not answered."""
PROBABILITY = _code(codes.DCM.Probability)
FINDING = _code(codes.DCM.Finding)
COMMENT = _code(codes.DCM.Comment)
SERIES = _code(codes.DCM.SeriesInstanceUID)
STUDY = Code("113014", "DCM", "DICOM Study")
LATERALITY = Code("272741003", "SCT", "Laterality")


@dataclass(frozen=True, eq=False)
class ReportContent:
    """A report of one image, not yet in the form of any message.

    Attributes:
        findings: with the model that found them.
        header: of the first source instance, mended: patient and study.
        orders: that the study was made for.
        identifiers: of the job; UIDs of report and findings derive from them.
        created: when the report was made, local time.
        document: the report to read as PDF, to be put into the message; None: it was not asked for.
    """

    findings: Findings
    header: Dataset
    orders: OrderNumbers
    identifiers: ResultIdentifiers
    created: datetime
    document: bytes | None = None

    @property
    def uid(self) -> str:
        """Of the report: the same whenever it is made or sent again, so that nobody takes it for another one."""
        return str(self.identifiers.uid_of("message"))

    def finding_uid(self, number: int) -> str:
        """Of finding `number` (from 0): its tracking UID in SEG and SR."""
        return str(self.identifiers.tracking_uid(number))


def report_content(
    image: Image, findings: Findings, identifiers: ResultIdentifiers, document: bytes | None = None
) -> ReportContent:
    """Gather what the messages of an image say.

    Raises:
        InputError: the image did not come from DICOM, or its source can't hold a result.
    """
    source = read_source(image)
    return ReportContent(
        findings=findings,
        header=source.headers[0],
        orders=read_orders(image.sources[0].path),
        identifiers=identifiers,
        created=identifiers.created or datetime.now(),
        document=document,
    )


def date_of(header: Dataset, keyword: str) -> str:
    """A date of the source as DA has it, "yyyymmdd"; "" where it is none: receivers refuse a message for it."""
    return as_date(str(header.get(keyword) or "").strip()) or ""
