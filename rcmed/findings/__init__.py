"""What was found: one Finding per target, and the list of them with the identity of the model."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rcmed.codes import Code
from rcmed.image import Grid
from rcmed.modality import Modality
from rcmed.packed_mask import PackedMask

if TYPE_CHECKING:
    from rcmed.vocabulary import Target


class FindingStatus(StrEnum):
    """What is said of a target. The thresholds that decide it travel with the weights."""

    FOUND = "found"
    ABSENT = "absent"
    UNCERTAIN = "uncertain"
    IMPLAUSIBLE = "implausible"
    """What the weights find can't be: not found, and `reason` says why."""
    UNRESOLVED = "unresolved"


@dataclass(frozen=True)
class Box:
    """A box around one connected part of a mask; voxel indices (slice, row, column), both ends inclusive."""

    first: tuple[int, int, int]
    last: tuple[int, int, int]


@dataclass(frozen=True)
class Measurement:
    """A number with its unit.

    Attributes:
        name: what is measured, in words ("volume").
        value: the number.
        unit: UCUM code ("mm2", "cm3", "mm", "{pixels}", "[hnsf'U]").
        code: the concept, for the structured report.
        derivation: how it was derived (mean, minimum, ...), for the structured report.
    """

    name: str
    value: float
    unit: str
    code: Code
    derivation: Code | None = None


class _KeptPacked:
    """The attribute `mask` of a finding: given and asked for in bytes, kept in bits."""

    def __get__(self, finding: Finding | None, owner: type[Finding]) -> NDArray[np.bool_] | None:
        if finding is None:  # asked of the class: the default
            return None
        region = finding.region
        return None if region is None else region.unpack()

    def __set__(self, finding: Finding, mask: NDArray[np.bool_] | None) -> None:
        finding.__dict__["_region"] = None if mask is None else PackedMask.of(mask)


@dataclass(frozen=True, eq=False)
class Finding:
    """One target in one image.

    Attributes:
        prompt: the words that asked for it.
        target: the concept; None where the words could not be resolved (then `reason` says why).
        status: found, absent, uncertain, implausible or unresolved.
        presence: probability in [0, 1] that the target is in the image, as the weights see it; None where unresolved.
        mask: bool (slice, row, column) on the image's own grid; None unless found or uncertain with a region. It is
            unpacked each time it is asked for: one that is asked for often is better held by whoever asks.
        boxes: around each connected part, largest first.
        measurements: with units; millimetres only where the grid has them.
        description: a paragraph for a reader, of at most 1024 characters.
        reason: why there is no target, or why the target can't be what the weights found.
    """

    prompt: str
    target: Target | None
    status: FindingStatus
    presence: float | None = None
    mask: _KeptPacked = _KeptPacked()  # noqa: RUF009 (a descriptor, not a value)
    boxes: tuple[Box, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    description: str = ""
    reason: str | None = None

    @property
    def is_present(self) -> bool:
        """Whether a region is reported."""
        return self.region is not None and self.status in (FindingStatus.FOUND, FindingStatus.UNCERTAIN)

    @property
    def region(self) -> PackedMask | None:
        """The mask as it is kept."""
        found: PackedMask | None = self.__dict__["_region"]
        return found

    def reworded(self, *, prompt: str | None = None, description: str | None = None) -> Finding:
        """The same finding in other words; what is None stays. Its mask is not unpacked for it."""
        other = copy(self)
        other.__dict__.update(
            prompt=self.prompt if prompt is None else prompt,
            description=self.description if description is None else description,
        )
        return other


@dataclass(frozen=True)
class ModelIdentity:
    """Which model spoke: name, version of the software, SHA-256 of the weights."""

    name: str
    version: str
    weights_sha256: str


@dataclass(frozen=True, eq=False)
class Findings:
    """All findings in one image.

    Attributes:
        findings: in the order in which they were asked.
        model: who found them.
        grid: the image's grid, on which all masks lie.
        modality: the image's modality.
        instruction: the text given to the model.
        answer: the model's answer in words.
        seconds: durations by phase, in seconds.
    """

    findings: tuple[Finding, ...]
    model: ModelIdentity
    grid: Grid
    modality: Modality
    instruction: str = ""
    answer: str = ""
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for finding in self.findings:
            if finding.region is not None:
                self.grid.require_mask(finding.region)
