"""What an evaluation says of one target in one image."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ScoreRow:
    """One target in one image, as `metrics.csv` has it.

    Attributes:
        found: whether a region was reported.
        status: what was said of the target: found, uncertain or absent.
        patient: whose image it is; empty where unknown.
        foreign: whether the target is one of other modalities, asked only to see whether it is refused.
        click_dice, box_dice: Dice where a simulated user clicks on the target once, and draws a box around it
            (`rcmed.evaluation.simulated_user`); None where that was not asked.
    """

    image: str
    modality: str
    dataset: str
    target: str
    dice: float
    iou: float
    nsd: float
    presence: float
    present: bool
    found: bool = False
    boxes_found: int = 0
    boxes_true: int = 0
    boxes_matched: int = 0
    status: str = ""
    patient: str = ""
    foreign: bool = False
    click_dice: float | None = None
    box_dice: float | None = None

    @property
    def unit(self) -> str:
        """What is drawn in a bootstrap: the patient, or the image where nobody knows."""
        return self.patient or self.image
