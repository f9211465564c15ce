"""One image answered on disk: findings.json, masks on the input's own grid, overlays, and other forms by plug-in."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from rcmed.assistant import Assistant
from rcmed.evaluation.overlays import paint_overlay
from rcmed.findings import Findings
from rcmed.findings_json import write_findings_json
from rcmed.image import Image
from rcmed.readers import write_mask

# Entry points of this group are called as writer(image, findings, folder) for images that came from their source.
WRITERS = "rcmed.writers"


def answer_image(assistant: Assistant, image: Image, prompt: str, folder: Path) -> Findings:
    """Find what `prompt` asks for and write the answer into `folder`.

    Raises:
        InputError: a writer can't file a result for this image (it says why); what was written before stays.
    """
    findings = assistant.find(image, prompt)
    write_answer(image, findings, folder)
    return findings


def write_answer(image: Image, findings: Findings, folder: Path) -> None:
    """Write findings.json, a mask and an overlay per finding, and what the plugged-in writers add."""
    folder.mkdir(parents=True, exist_ok=True)
    masks: dict[int, str] = {}
    suffix = ".nii.gz" if image.is_volume else ".png"
    for number, finding in enumerate(findings.findings):
        if finding.mask is None or finding.target is None:
            continue
        name = finding.target.name.replace(" ", "_")
        masks[number] = f"mask-{number + 1}-{name}{suffix}"
        write_mask(finding.mask, image, folder / masks[number])
        best = int(np.argmax(finding.mask.sum(axis=(1, 2))))
        picture = paint_overlay(image, [finding], best)
        PillowImage.fromarray(picture).save(folder / f"overlay-{number + 1}-{name}.png")
    write_findings_json(image, findings, masks, folder / "findings.json")
    for writer in entry_points(group=WRITERS):
        writer.load()(image, findings, folder)
