"""The answer in a sentence or two, over all that was asked for."""

from __future__ import annotations

from collections.abc import Sequence

from rcmed.findings import Finding
from rcmed.image import Image
from rcmed.model.instruction import modality_words


def summarise(image: Image, findings: Sequence[Finding]) -> str:
    """What was seen and what was not, or why nothing was looked for."""
    if image.unlearned is not None and not findings:
        return f"Nothing was looked for: {image.unlearned}."
    shown = [f.target.name for f in findings if f.target is not None and f.is_present]
    missing = [f.target.name for f in findings if f.target is not None and not f.is_present]
    if image.is_modality_assumed and not findings:
        return "Nothing says what kind of image this is, and nothing was looked for: tell it, or name what to find."
    text = f"This is a {modality_words(image.modality)} image."
    if shown:
        text += f" The image contains {', '.join(shown)}."
    if missing:
        text += f" Not seen: {', '.join(missing)}."
    return text
