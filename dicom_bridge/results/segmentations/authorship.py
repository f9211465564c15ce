"""Who drew the regions of a SEG: a model, a person, or a person with a model's help."""

from __future__ import annotations

from dataclasses import dataclass

from highdicom.seg import SegmentAlgorithmTypeValues


@dataclass(frozen=True)
class Authorship:
    """What a SEG says of its making. Whoever drew them, results are research and unverified.

    Attributes:
        algorithm_type: Segment Algorithm Type (0062,0008); with MANUAL no algorithm is named.
        creator: the person, for Content Creator's Name (0070,0084); "" for a model alone.
        content_label: (0070,0080), CS.
        content_description: (0070,0081), LO.
        series_description: (0008,103E), LO; None: what it is, by which route and of which series.
    """

    algorithm_type: SegmentAlgorithmTypeValues = SegmentAlgorithmTypeValues.AUTOMATIC
    creator: str = ""
    content_label: str = "RCMED"
    content_description: str = "Regions found by RCMed"
    series_description: str | None = None

    @property
    def is_manual(self) -> bool:
        """Whether a person drew them alone."""
        return self.algorithm_type is SegmentAlgorithmTypeValues.MANUAL


BY_MODEL = Authorship()
"""The model alone: what the gateway files."""
