"""From the published checkpoint to a model folder of ours."""

from rcmed.published.checkpoint import import_checkpoint

__all__ = ["import_checkpoint"]
