"""One image answered on disk: findings.json, masks on the input's own grid, overlays, and other forms by plug-in."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

from PIL import Image as PillowImage

from rcmed.evaluation.overlays import best_slice, paint_overlay
from rcmed.findings import Findings
from rcmed.findings_json import write_findings_json
from rcmed.image import Image
from rcmed.readers import write_mask

# Entry points of this group are called as writer(image, findings, folder); they pass over images that are not of their
# kind, and return a line for each thing that they could not write.
WRITERS = "rcmed.writers"


def write_answer(image: Image, findings: Findings, folder: Path) -> list[str]:
    """Write findings.json, a mask and an overlay per finding, and what the plugged-in writers add.

    Returns:
        a line for each thing that could not be written, with the reason.
    """
    folder.mkdir(parents=True, exist_ok=True)
    masks: dict[int, str] = {}
    suffix = ".nii.gz" if image.grid.shape[0] > 1 else ".png"
    for number, finding in enumerate(findings.findings):
        if finding.mask is None or finding.target is None:
            continue
        name = finding.target.name.replace(" ", "_")
        masks[number] = f"mask-{number + 1}-{name}{suffix}"
        write_mask(finding.mask, image, folder / masks[number])
        picture = paint_overlay(image, [finding], best_slice(image, finding))
        PillowImage.fromarray(picture).save(folder / f"overlay-{number + 1}-{name}.png")
    write_findings_json(image, findings, masks, folder / "findings.json")
    return [line for writer in entry_points(group=WRITERS) for line in writer.load()(image, findings, folder)]
