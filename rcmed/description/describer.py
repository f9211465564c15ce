"""Who turns regions into words, and how findings get theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rcmed.findings import Finding
from rcmed.image import Image

LONGEST_DESCRIPTION = 1024
"""Characters; DICOM's short texts hold no more (VR ST), and a reader wants no more."""


class Describer(Protocol):
    """Says in words what the regions of an image are like."""

    def describe(self, image: Image, masks: Mapping[str, NDArray[np.bool_]]) -> dict[str, str]:
        """A paragraph in plain English for each region.

        Args:
            image: on whose grid the masks lie.
            masks: by the name of the target, bool (slice, row, column); all regions known, for their relations.
        Returns:
            by name, at most `LONGEST_DESCRIPTION` characters; empty for an empty mask.
        Raises:
            GridMismatchError: a mask does not lie on the image's grid.
        """
        ...


def describe_findings(image: Image, findings: Sequence[Finding], describer: Describer) -> list[Finding]:
    """The same findings with descriptions, once all of an image are known; those without a region stay as they are."""
    masks = {f.target.name: f.mask for f in findings if f.target is not None and f.mask is not None}
    words = describer.describe(image, masks) if masks else {}
    return [
        replace(f, description=words.get(f.target.name, "")) if f.target is not None and f.mask is not None else f
        for f in findings
    ]


def shortened(text: str, longest: int = LONGEST_DESCRIPTION) -> str:
    """`text` in one paragraph of at most so many characters, cut between words."""
    paragraph = " ".join(text.split())
    if len(paragraph) <= longest:
        return paragraph
    cut = paragraph[: longest - 3]
    return (cut.rsplit(" ", 1)[0] if " " in cut else cut) + "..."
