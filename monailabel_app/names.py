"""Ids, tags and file names that come from outside, before a path is built from them."""

from __future__ import annotations

import re
from pathlib import PurePosixPath, PureWindowsPath

from rcmed.errors import InputError

LONGEST_ID = 200
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_. -]{0,63}")
_NOT_IN_FILE_NAMES = re.compile(r"[^\w.+ -]")


def require_id(value: str, what: str) -> str:
    """The id itself, where it can be part of a file's name and nothing else.

    Raises:
        InputError: empty, too long, or with a path in it.
    """
    harmful = ".." in value or value.startswith(".") or any(c in value for c in "/\\") or not value.isprintable()
    if not value.strip() or len(value) > LONGEST_ID or harmful:
        shown = value[:40].encode("ascii", "backslashreplace").decode()
        raise InputError(f"{what} '{shown}' is no id: it may hold no path, no '..' and at most {LONGEST_ID} characters")
    return value


def require_tag(value: str) -> str:
    """The tag itself, where it can be a folder's name and nothing else.

    Raises:
        InputError: anything but letters, digits, '_', '-', '.' and spaces.
    """
    if _TAG.fullmatch(value) is None or ".." in value or value != value.strip():
        shown = value[:40].encode("ascii", "backslashreplace").decode()
        raise InputError(f"tag '{shown}' is no tag: letters, digits, '_', '-', '.', at most 64")
    return value


def file_name(given: str | None, default: str) -> str:
    """The last part of a name that a client gives for its file, safe as a file's name; folders are dropped."""
    last = PureWindowsPath(PurePosixPath(given or "").name).name
    last = _NOT_IN_FILE_NAMES.sub("_", last).strip(" .")
    return last[-LONGEST_ID:] or default
