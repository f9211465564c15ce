"""A region in words."""

from rcmed.description.deterministic import describe

__all__ = ["describe"]
