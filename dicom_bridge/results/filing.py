"""SEG and SR beside the other answers of one image: what `rcmed.writers` calls for images that came from DICOM."""

from __future__ import annotations

from pathlib import Path

from dicom_bridge.results.identifiers import ResultIdentifiers
from dicom_bridge.results.report import build_report
from dicom_bridge.results.segmentation import build_segmentation
from dicom_bridge.results.source import read_source
from rcmed.errors import InputError
from rcmed.findings import Findings
from rcmed.image import Image

SEGMENTATION_FILE = "segmentation.dcm"
REPORT_FILE = "report.dcm"


def write_results(image: Image, findings: Findings, folder: Path) -> list[str]:
    """Write `segmentation.dcm` and `report.dcm` into `folder`; images that did not come from DICOM are passed over.

    UIDs derive from the series, its instances, the weights and the instruction: asked again, the results are the same.

    Returns:
        a line for each object that can't be written, with the reason.
    """
    if not image.sources:
        return []
    identity = [
        *(f"{source.sop_instance_uid}/{source.frame_number}" for source in image.sources),
        findings.model.weights_sha256,
        *(finding.prompt for finding in findings.findings),
    ]
    identifiers = ResultIdentifiers.derive("\n".join(identity))
    said = []
    try:
        segmentation = build_segmentation(findings, image, identifiers)
        if segmentation is None and any(finding.is_present for finding in findings.findings):
            said.append(f"no SEG is written: {read_source(image).segmentation_refusal or 'every region is empty'}")
        report = build_report(findings, image, segmentation, identifiers)
    except InputError as error:
        return [f"no SEG and SR are written: {error}"]
    if segmentation is not None:
        segmentation.save_as(folder / SEGMENTATION_FILE, enforce_file_format=True)
    report.save_as(folder / REPORT_FILE, enforce_file_format=True)
    return said
