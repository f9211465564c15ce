"""Vision towers: an image becomes tokens for the language model, a dense embedding, and finer features."""

from rcmed.model.vision.convolutional import ConvolutionalTower
from rcmed.model.vision.tower import VisionFeatures, VisionTower

__all__ = ["ConvolutionalTower", "VisionFeatures", "VisionTower"]
