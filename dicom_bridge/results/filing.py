"""SEG and SR beside the other answers of one image: what `rcmed.writers` calls for images that came from DICOM."""

from __future__ import annotations

from pathlib import Path

from dicom_bridge.results.identifiers import ResultIdentifiers
from dicom_bridge.results.objects import build_objects
from rcmed.errors import InputError
from rcmed.findings import Findings
from rcmed.image import Image


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
    try:
        objects = build_objects(image, findings, identifiers)
    except InputError as error:
        return [f"no SEG and SR are written: {error}"]
    for name, content in objects.files():
        (folder / name).write_bytes(content)
    return [objects.segmentation_refusal] if objects.segmentation_refusal else []
