"""A verdict on a candidate, with the figures that it rests on, for a person to read."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class Kind(StrEnum):
    """On what a target was measured."""

    CORRECTED = "corrected"
    """On held-out corrections of this batch."""
    GUARD = "guard"
    """On held-out corrections that were accepted before, and on references of the site."""
    OTHER = "other"
    """On images where nobody labelled it: agreement with the served model's sure answers."""


class Figures(BaseModel):
    """Of one target, before (the served model) and after (the candidate): mean Dice, or agreement with the served."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    target: str
    kind: Kind
    pairs: int
    before: float
    after: float

    @property
    def change(self) -> float:
        """After minus before."""
        return self.after - self.before


class Verdict(BaseModel):
    """Whether a candidate may be served.

    Attributes:
        accepted: whether it may.
        reasons: a line each; of a refusal what was wrong, of a promotion what rose.
        figures: of every target that was measured.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    accepted: bool
    reasons: tuple[str, ...]
    figures: tuple[Figures, ...] = ()

    def as_markdown(self) -> str:
        """The reasons, and a table of the figures."""
        lines = [f"{'Accepted' if self.accepted else 'Refused'}: {'; '.join(self.reasons)}"]
        if self.figures:
            lines += ["", "| target | measured on | pairs | before | after | change |"]
            lines.append("| --- | --- | ---: | ---: | ---: | ---: |")
        for each in self.figures:
            lines.append(
                f"| {each.target} | {each.kind.value} | {each.pairs} | {each.before:.3f} | {each.after:.3f} "
                f"| {each.change:+.3f} |"
            )
        return "\n".join(lines)
