"""The one table of targets, and how free text is resolved to them."""

from rcmed.vocabulary.body_regions import BodyRegion
from rcmed.vocabulary.matching import Resolution, resolve_targets
from rcmed.vocabulary.named import target_called
from rcmed.vocabulary.table import Target, load_targets, target_named

__all__ = ["BodyRegion", "Resolution", "Target", "load_targets", "resolve_targets", "target_called", "target_named"]
