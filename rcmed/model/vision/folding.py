"""Batch norms become part of the convolutions before them: a batch equals its items, and the tower is faster."""

from __future__ import annotations

import copy
from typing import cast

from torch import Tensor
from torch.nn.utils.fusion import fuse_conv_bn_weights

from rcmed.model.config import RCMedConfig
from rcmed.model.modeling import RCMedModel
from rcmed.model.vision.efficientnet import NORM_EPSILON

_STATISTIC = ".norm.running_mean"


def folded(model: RCMedModel) -> RCMedModel:
    """The model for use: the same where it has no batch norm, else one whose tower is folded."""
    config = cast(RCMedConfig, model.config)
    if config.vision is None or config.vision.get("folded"):
        return model
    of_use = copy.deepcopy(config)
    of_use.vision = {**config.vision, "folded": True}
    in_use = RCMedModel(of_use)
    in_use.load_state_dict(_fold(model.state_dict()))
    return in_use


def _fold(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dictionary, in which `NAME.norm.*` normalises what `NAME.conv.weight` gives."""
    places = [name.removesuffix(_STATISTIC) for name in weights if name.endswith(_STATISTIC)]
    inside = tuple(f"{place}.norm." for place in places)
    rest = {name: value for name, value in weights.items() if not name.startswith(inside)}
    for place in places:
        mean, variance, scale, shift = (
            weights[f"{place}.norm.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        weight, bias = fuse_conv_bn_weights(
            weights[f"{place}.conv.weight"], None, mean, variance, NORM_EPSILON, scale, shift
        )
        rest[f"{place}.conv.weight"], rest[f"{place}.conv.bias"] = weight.detach(), bias.detach()
    return rest
