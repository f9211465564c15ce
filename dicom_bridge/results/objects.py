"""The DICOM objects that answer one image: a SEG where something has a region, and always an SR."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

from pydicom.dataset import Dataset

from dicom_bridge.results.identifiers import ResultIdentifiers
from dicom_bridge.results.report import build_report
from dicom_bridge.results.segmentation import build_segmentation
from dicom_bridge.results.source import read_source
from rcmed.findings import Findings
from rcmed.image import Image

SEGMENTATION_FILE = "segmentation.dcm"
REPORT_FILE = "report.dcm"


@dataclass(frozen=True, eq=False)
class ResultObjects:
    """What is written for one image.

    Attributes:
        segmentation: None where nothing was found, or where no SEG is allowed.
        report: of all findings.
        segmentation_refusal: one line: why there is no SEG though something was found.
    """

    segmentation: Dataset | None
    report: Dataset
    segmentation_refusal: str | None

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Name and content of each DICOM file."""
        for name, dataset in ((SEGMENTATION_FILE, self.segmentation), (REPORT_FILE, self.report)):
            if dataset is not None:
                buffer = io.BytesIO()
                dataset.save_as(buffer, enforce_file_format=True)
                yield name, buffer.getvalue()


def build_objects(image: Image, findings: Findings, identifiers: ResultIdentifiers) -> ResultObjects:
    """Build SEG and SR of the findings in one image.

    Raises:
        InputError: the source can't hold a result.
        GridMismatchError: findings, image and source do not lie on one grid.
    """
    segmentation = build_segmentation(findings, image, identifiers)
    refusal = None
    if segmentation is None and any(finding.is_present for finding in findings.findings):
        refusal = f"no SEG is written: {read_source(image).segmentation_refusal or 'every region is empty'}"
    return ResultObjects(segmentation, build_report(findings, image, segmentation, identifiers), refusal)
