"""Which parameters are trained at which rate, and which layers stand still."""

from __future__ import annotations

from typing import Any

from torch import nn

from rcmed.model.modeling import RCMedModel
from rcmed.model.vision import EfficientNetTower
from rcmed.training.settings import TrainingSettings


def parameter_groups(model: RCMedModel, settings: TrainingSettings) -> list[dict[str, Any]]:
    """Groups for AdamW; `rate` is a factor of the learning rate. A vector has no weight decay."""
    encoder: set[int] = set()
    if isinstance(model.vision, EfficientNetTower):
        encoder = {id(p) for part in model.vision.encoder() for p in part.parameters()}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            groups.setdefault((id(parameter) in encoder, parameter.ndim <= 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": 0.0 if is_vector else settings.weight_decay,
            "rate": settings.encoder_rate if is_encoder else 1.0,
        }
        for (is_encoder, is_vector), parameters in sorted(groups.items(), key=lambda group: group[0])
    ]


def freeze_norm(module: nn.Module) -> None:
    """Let a batch norm stand still: its statistics and its scale."""
    if isinstance(module, nn.BatchNorm2d):
        module.eval()
        module.requires_grad_(False)
