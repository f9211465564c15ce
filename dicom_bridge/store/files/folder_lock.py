"""Who may use a state folder: one gateway with SQLite, or many processes that share a PostgreSQL database."""

from __future__ import annotations

import fcntl
import itertools
import os
import re
import socket
from pathlib import Path
from typing import IO

from rcmed.errors import ConfigurationError


def lock_state_folder(folder: Path, shared: bool = False) -> IO[str]:
    """Take the folder, created where missing, and close it to other users.

    It is free again when the returned file is closed or the process ends.

    Args:
        folder: the state folder.
        shared: whether others may take it, too, shared as well.
    Raises:
        ConfigurationError: another gateway has it, or it can't be written.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid == os.getuid():
            # Images of patients, whoever starts the gateway and with whatever umask.
            folder.chmod(0o700)
        lock = (folder / "gateway.lock").open("a")
        fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigurationError(
            f"state_folder {folder} is in use by another gateway: stop it, name another folder, or let all that share "
            f"it use one PostgreSQL (database.url)"
        ) from None
    except OSError as error:
        raise ConfigurationError(f"state_folder {folder} can't be used: {error.strerror}") from None
    return lock


def claim_name(folder: Path, wanted: str | None) -> tuple[str, IO[str]]:
    """A name that no other process of this state folder has, as long as the returned file is open.

    Args:
        folder: the state folder.
        wanted: the name; None: the machine's name and the first number that is free, so that a process that is
            started again finds its own name and goes on with its own work.
    Raises:
        ConfigurationError: another process has the wanted name, or the folder can't be written.
    """
    host = re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname()).strip("-_") or "machine"
    names = (f"{host[:50]}-{number}" for number in itertools.count(1)) if wanted is None else iter((wanted,))
    for name in names:
        try:
            (folder / "workers").mkdir(exist_ok=True)
            lock = (folder / "workers" / f"{name}.lock").open("a")
        except OSError as error:
            raise ConfigurationError(f"state_folder {folder} can't be used: {error.strerror}") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        return name, lock
    raise ConfigurationError(f"workers.name: another process is called {wanted}: give this one a name of its own")


class Turn:
    """Something that one process of a state folder does at a time: who took the turn has it until it ends."""

    def __init__(self, folder: Path, name: str) -> None:
        self._path = folder / f"{name}.lock"
        self._lock: IO[str] | None = None

    def is_ours(self) -> bool:
        """Whether this process has the turn; takes it when nobody has.

        Raises:
            OSError: the folder can't be written.
        """
        if self._lock is not None:
            return True
        lock = self._path.open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return False
        self._lock = lock
        return True

    def end(self) -> None:
        """Let others have it."""
        if self._lock is not None:
            self._lock.close()
        self._lock = None
