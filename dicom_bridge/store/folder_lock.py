"""One gateway per state folder."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO

from rcmed.errors import ConfigurationError


def lock_state_folder(folder: Path) -> IO[str]:
    """Take the folder, created where missing; it is free again when the returned file is closed or the process ends.

    Raises:
        ConfigurationError: another gateway has it, or it can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "gateway.lock").open("a")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigurationError(
            f"state_folder {folder} is in use by another gateway: stop it or name another folder"
        ) from None
    except OSError as error:
        raise ConfigurationError(f"state_folder {folder} can't be used: {error.strerror}") from None
    return lock
