"""What the images of a data set show of the body."""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from rcmed.vocabulary.body_regions import BodyRegion

REGIONS = tuple(BodyRegion)
NOTHING_KNOWN = torch.full((len(REGIONS),), torch.nan)


class ShownRegions(BaseModel):
    """What the images of a data set show of the body.

    Attributes:
        shown: in every image.
        possible: in some images.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    shown: tuple[BodyRegion, ...] = ()
    possible: tuple[BodyRegion, ...] = ()

    def known(self) -> Tensor:
        """Float32 (region,) in the order of `REGIONS`: 1 shown, 0 not shown, NaN where it may be."""
        known = [1.0 if each in self.shown else torch.nan if each in self.possible else 0.0 for each in REGIONS]
        return torch.tensor(known)
