"""Medical images asked in words: findings with masks, presence and measurements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rcmed.assistant import Assistant

__all__ = ["Assistant"]


def __getattr__(name: str) -> Any:
    """Import the assistant, and torch with it, only when it is asked for: `rcmed --help` needs neither."""
    if name == "Assistant":
        from rcmed.assistant import Assistant

        return Assistant
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
