"""What is noted of images and labels beside the archive: one JSON file each, whole or not there at all."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monailabel_app import names
from rcmed.durable_files import write_durably
from rcmed.errors import InputError

MAX_BYTES = 2**20
"""Largest record, in bytes of JSON."""
LONGEST_TAG = 48
"""Characters of a tag: it stands in a SEG's Series Description, of at most 64."""
_IDENTIFIER = re.compile(r"[0-9]+(\.[0-9]+)*(_[0-9]+(\.[0-9]+)*)?")


def require_tag(tag: object) -> str:
    """The text of a tag ("final", "original", a user's name), when no path can be smuggled in by it.

    Raises:
        InputError: it is no tag (`names.require_tag`), or longer than 48 characters.
    """
    text = names.require_tag(str(getattr(tag, "value", tag)))
    if len(text) > LONGEST_TAG:
        raise InputError(f"tag: has {len(text)} characters; a SEG's series description holds one of {LONGEST_TAG}")
    return text


def require_identifier(identifier: str) -> str:
    """The identifier itself, when it is a UID, or two of them joined by "_".

    Raises:
        InputError: it is not; nothing is looked up or written by it.
    """
    if not isinstance(identifier, str) or len(identifier) > 129 or _IDENTIFIER.fullmatch(identifier) is None:
        raise InputError("id: not the UID of a series or label of this datastore")
    return identifier


class Records:
    """The folders `images` and `labels` with a JSON object for each identifier."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.RLock()

    def read(self, kind: str, identifier: str) -> dict[str, Any]:
        """What is noted; empty where nothing is, or where the file is damaged."""
        path = self._path(kind, identifier)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def update(self, kind: str, identifier: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Note more; what was noted under the same key is replaced.

        Raises:
            InputError: not to be written as JSON, or larger than a megabyte.
        """
        with self._lock:
            content = {**self.read(kind, identifier), **values}
            try:
                text = json.dumps(content, indent=1, allow_nan=False, default=_plain)
            except (TypeError, ValueError) as error:
                raise InputError(f"info: can't be kept as JSON ({error})") from None
            if len(text.encode()) > MAX_BYTES:
                raise InputError(f"info: larger than the limit of {MAX_BYTES} bytes")
            write_durably(self._path(kind, identifier), text.encode())
            return content

    def _path(self, kind: str, identifier: str) -> Path:
        return self._folder / kind / f"{require_identifier(identifier)}.json"


def _plain(value: object) -> object:
    """Numbers of NumPy and paths as JSON has them."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} is no JSON")
