"""Vision towers: an image becomes tokens for the language model, a dense embedding, and finer features."""

from rcmed.model.config import RCMedConfig
from rcmed.model.vision.convolutional import ConvolutionalTower
from rcmed.model.vision.efficientnet import EfficientNetTower
from rcmed.model.vision.sam import SamTower
from rcmed.model.vision.tower import VisionFeatures

__all__ = ["ConvolutionalTower", "EfficientNetTower", "SamTower", "VisionFeatures", "vision_tower"]


def vision_tower(config: RCMedConfig) -> ConvolutionalTower | EfficientNetTower | SamTower:
    """The tower that a configuration names."""
    if config.segment_anything:
        return SamTower(config)
    return ConvolutionalTower(config) if config.vision is None else EfficientNetTower(config)
