"""From the published checkpoint to a model folder of ours."""

from rcmed.importing.checkpoint import import_checkpoint

__all__ = ["import_checkpoint"]
