"""Secrets (passwords, tokens) come from files that the settings name."""

from __future__ import annotations

from pathlib import Path

from rcmed.errors import ConfigurationError


def read_secret(path: Path, key: str) -> str:
    """A secret from a file; blanks around it do not count.

    Raises:
        ConfigurationError: unreadable or empty.
    """
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise ConfigurationError(f"{key}: {path} can't be read ({reason})") from None
    if not secret:
        raise ConfigurationError(f"{key}: {path} is empty: write the secret into it")
    return secret
