"""Who turns regions into words, and how findings get theirs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rcmed.findings import Finding
from rcmed.image import Image
from rcmed.packed_mask import PackedMask

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
    regions = {f.target.name: f.region for f in findings if f.target is not None and f.region is not None}
    words = describer.describe(image, _Unpacked(regions)) if regions else {}
    return [
        f.reworded(description=words.get(f.target.name, "")) if f.target is not None and f.region is not None else f
        for f in findings
    ]


class _Unpacked(Mapping[str, NDArray[np.bool_]]):
    """Masks that are unpacked when they are asked for."""

    def __init__(self, regions: Mapping[str, PackedMask]) -> None:
        self._regions = regions

    def __getitem__(self, name: str) -> NDArray[np.bool_]:
        return self._regions[name].unpack()

    def __iter__(self) -> Iterator[str]:
        return iter(self._regions)

    def __len__(self) -> int:
        return len(self._regions)


def shortened(text: str, longest: int = LONGEST_DESCRIPTION) -> str:
    """`text` in one paragraph of at most so many characters, cut between words."""
    paragraph = " ".join(text.split())
    if len(paragraph) <= longest:
        return paragraph
    cut = paragraph[: longest - 3]
    return (cut.rsplit(" ", 1)[0] if " " in cut else cut) + "..."
