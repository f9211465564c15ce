"""Files that are there whole or not at all, also after a crash: written beside their place, synced, then renamed."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; what was written there takes its place when the block ends without an error.

    The folder is made where it is missing. Two who do so at the same time don't meet: the later one's file stays.

    Raises:
        OSError: the folder can't be written, or the disk is full; nothing is left then, and what was there stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        yield part
        sync_file(part)
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_durably(path: Path, content: bytes | memoryview) -> None:
    """Write a file so that after a crash it is there whole or not at all; raises as `replaced` does."""
    with replaced(path) as part:
        part.write_bytes(content)


def sync_folder(folder: Path) -> None:
    """Have the entries of a folder on the disk (POSIX: fsync of a directory)."""
    _sync(folder)


def sync_file(path: Path) -> None:
    """Have the content of a file on the disk."""
    _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
