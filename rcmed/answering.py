"""One image answered on disk: findings.json, masks on the input's own grid, overlays, and other forms by plug-in."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path

from PIL import Image as PillowImage

from rcmed.evaluation.overlays import best_slice, paint_overlay
from rcmed.findings import Findings
from rcmed.findings_json import write_findings_json
from rcmed.image import Image
from rcmed.readers import mask_suffix, write_mask

# Entry points of this group are called as writer(image, findings, folder, kinds); they pass over images that are not of
# their kind, and return a line for each thing that they could not write. `kinds` are words of theirs; none: as usual.
WRITERS = "rcmed.writers"


def write_answer(image: Image, findings: Findings, folder: Path, kinds: Sequence[str] = ()) -> list[str]:
    """Write findings.json, a mask and an overlay per finding, and what the plugged-in writers add.

    Args:
        image, findings: what is written.
        folder: where; made where missing.
        kinds: which objects plugged-in writers add; none: their usual ones.
    Returns:
        a line for each thing that could not be written, with the reason.
    Raises:
        InputError: a writer does not know a kind.
    """
    folder.mkdir(parents=True, exist_ok=True)
    masks: dict[int, str] = {}
    suffix = ".nii.gz" if image.grid.shape[0] > 1 else mask_suffix(image)
    for number, finding in enumerate(findings.findings):
        mask = finding.mask
        if mask is None or finding.target is None:
            continue
        name = finding.target.name.replace(" ", "_")
        masks[number] = f"mask-{number + 1}-{name}{suffix}"
        write_mask(mask, image, folder / masks[number])
        picture = paint_overlay(image, [finding], best_slice(image, finding))
        PillowImage.fromarray(picture).save(folder / f"overlay-{number + 1}-{name}.png")
    write_findings_json(image, findings, masks, folder / "findings.json")
    return [line for writer in entry_points(group=WRITERS) for line in writer.load()(image, findings, folder, kinds)]
