"""What is chosen for some weights of volumes: how slices are joined, heard together, and cut; it travels with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from rcmed.errors import CheckpointError
from rcmed.inference.volume import ACCUMULATION, ISLAND_SHARE
from rcmed.model.config import RCMedConfig


@dataclass(frozen=True)
class Joining:
    """How slices become one mask; see docs/volumes.md.

    Attributes:
        smoothing_mm: standard deviation of the Gaussian that is laid over the logits along the slice axis.
        presence_weight: so much of a slice's log-odds of presence, below those of the surest slices, is added to its
            logits: where the target rather is not, its mask must be the surer.
        surest_quantile: of the slices that may show the target, those from this quantile on are the surest.
        growth: logit above which a voxel belongs to the mask.
        seed: logit that a part must reach anywhere, or it is noise.
        island_share: a part smaller than this share of the largest one is noise.
    """

    smoothing_mm: float = 1.5
    presence_weight: float = 2.0
    surest_quantile: float = 0.75
    growth: float = 0.0
    seed: float = 4.0
    island_share: float = ISLAND_SHARE


@dataclass(frozen=True)
class VolumeRule:
    """How the slices of a volume are read and heard together, as `benchmarks/volume_constants.py` chooses it.

    Attributes:
        thresholds: presence of a volume (absent below, found from) that is as good as the thresholds of a slice; None:
            nobody held it against what is not there, and the surest window of slices speaks alone.
        accumulation: 0 to 1, see `rcmed.inference.volume.presence_of_volume`.
        largest_share: CT slices whose body is longer than this share of the frame are read whole, others cut to it
            (`rcmed.inference.body_crop`); 0: none is cut.
        joining: how slices become one mask.
    """

    thresholds: tuple[float, float] | None = None
    accumulation: float = ACCUMULATION
    largest_share: float = 0.0
    joining: Joining = Joining()

    @classmethod
    def of(cls, config: RCMedConfig) -> VolumeRule:
        """The rule of some weights; what they don't say is as it is here.

        Raises:
            CheckpointError: `RCMedConfig.volumes` holds what is no such constant.
        """
        try:
            return cls.from_constants(config.volumes or {})
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"config.json: volumes: {error}") from error

    @classmethod
    def from_constants(cls, constants: Mapping[str, Any]) -> VolumeRule:
        """From what `constants` made.

        Raises:
            TypeError, ValueError: one is not known, or is not such a number.
        """
        joined = {field.name for field in fields(Joining)}
        joining = replace(Joining(), **{name: float(value) for name, value in constants.items() if name in joined})
        others = {name: value for name, value in constants.items() if name not in joined}
        if others.get("thresholds") is not None:
            absent_below, found_from = (float(value) for value in others["thresholds"])
            if not 0 < absent_below < found_from < 1:
                raise ValueError(f"thresholds: {absent_below:g}, {found_from:g} do not rise between 0 and 1")
            others["thresholds"] = absent_below, found_from
        return cls(**others, joining=joining)

    def constants(self) -> dict[str, Any]:
        """As `RCMedConfig.volumes` holds them."""
        own = {"thresholds": self.thresholds and list(self.thresholds), "accumulation": self.accumulation}
        joined = {field.name: getattr(self.joining, field.name) for field in fields(Joining)}
        return {**own, "largest_share": self.largest_share, **joined}
