"""Vision towers: an image becomes tokens for the language model, a dense embedding, and finer features."""

from rcmed.model.config import RCMedConfig
from rcmed.model.vision.convolutional import ConvolutionalTower
from rcmed.model.vision.sam import SamTower
from rcmed.model.vision.tower import VisionFeatures

__all__ = ["ConvolutionalTower", "SamTower", "VisionFeatures", "vision_tower"]


def vision_tower(config: RCMedConfig) -> ConvolutionalTower | SamTower:
    """The tower that a configuration names."""
    return SamTower(config) if config.segment_anything else ConvolutionalTower(config)
