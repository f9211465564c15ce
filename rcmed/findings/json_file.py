"""`findings.json`: all that was found in one image, for programs and people."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rcmed.codes import Code
from rcmed.durable_files import write_durably
from rcmed.findings import Finding, Findings, FindingStatus
from rcmed.image import Image

_PRESENT = {FindingStatus.FOUND: True, FindingStatus.ABSENT: False, FindingStatus.IMPLAUSIBLE: False}


def findings_to_json(image: Image, findings: Findings, masks: Mapping[int, str] | None = None) -> dict[str, Any]:
    """The content of `findings.json`.

    Args:
        image: what was looked at.
        findings: what was found in it.
        masks: number of a finding (from 0) -> path of its mask, relative to the folder of `findings.json`.
    Returns:
        values that the json module writes; `present` is null where the status is uncertain, and a prompt that named
        nothing known has `"target": null` and a `reason`. What the weights found where it can't be has the status
        "implausible" and a `reason`. `warnings` are the lines of the reader (a series that is incomplete, values that
        are no HU, ...), so that nobody takes an answer for more than it is.
    """
    if image.series_instance_uid is not None:
        source: dict[str, Any] = {"series_instance_uid": image.series_instance_uid}
    else:
        source = {"files": [str(path) for path in image.files]}
    masks = masks or {}
    return {
        "model": {
            "name": findings.model.name,
            "version": findings.model.version,
            "weights_sha256": findings.model.weights_sha256,
        },
        "input": source,
        "warnings": list(image.warnings),
        "modality": findings.modality.value,
        "instruction": findings.instruction,
        "answer": findings.answer,
        "findings": [_finding(finding, masks.get(number)) for number, finding in enumerate(findings.findings)],
        "seconds": dict(findings.seconds),
    }


def write_findings_json(image: Image, findings: Findings, masks: Mapping[int, str], path: Path) -> None:
    """Write `findings.json`; whoever reads `path` sees the whole file or none."""
    text = json.dumps(findings_to_json(image, findings, masks), indent=2, ensure_ascii=False, allow_nan=False)
    write_durably(path, (text + "\n").encode())


def _finding(finding: Finding, mask: str | None) -> dict[str, Any]:
    content: dict[str, Any] = {
        "prompt": finding.prompt,
        "target": finding.target.name if finding.target else None,
        "status": finding.status.value,
        "present": _PRESENT.get(finding.status),
        "presence": None if finding.presence is None else float(finding.presence),
        "mask": mask,
        "boxes": [{"first": [int(i) for i in box.first], "last": [int(i) for i in box.last]} for box in finding.boxes],
        "measurements": [
            {"name": m.name, "value": float(m.value) if math.isfinite(m.value) else None, "unit": m.unit}
            for m in finding.measurements
        ],
        "description": finding.description,
    }
    if finding.reason is not None:
        content["reason"] = finding.reason
    if finding.target is not None:
        content["codes"] = {"category": _code(finding.target.category), "type": _code(finding.target.type)}
        if finding.target.region is not None:
            content["codes"]["region"] = _code(finding.target.region)
        if finding.target.laterality is not None:
            content["codes"]["laterality"] = _code(finding.target.laterality)
    return content


def _code(code: Code) -> dict[str, str]:
    return {"value": code.value, "scheme": code.scheme, "meaning": code.meaning}
