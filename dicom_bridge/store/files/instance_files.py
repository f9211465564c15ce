"""Files of received instances. Paths are built from validated UIDs only, and a file is durable or not there at all."""

from __future__ import annotations

import errno
import os
import re
import shutil
import uuid
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from itertools import islice
from pathlib import Path

from dicom_bridge.store.files.file_system import names_follow_files
from rcmed.durable_files import sync_folder
from rcmed.errors import InputError

# PS3.5 9.1: digits and dots, at most 64 characters. Leading zeros of a component are forbidden there but met in
# practice and harmless in a path.
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_FOLDERS_REMEMBERED = 10_000
_PARTS_AT_ONCE = 512  # less than IOV_MAX (1024 on Linux)


class UnsafeUidError(InputError):
    """A text that should be a UID is not one, and no path may be built from it."""


def require_uid(text: str | None, name: str) -> str:
    """The text itself, when it is a UID.

    Raises:
        UnsafeUidError: missing, longer than 64 characters, or with anything but digits and single dots.
    """
    if not text:
        raise UnsafeUidError(f"{name} is missing")
    if len(text) > 64 or _UID.fullmatch(text) is None:
        raise UnsafeUidError(f"{name} is not a valid UID (digits and single dots, at most 64 characters)")
    return text


class InstanceFiles:
    """The folder `instances/<study>/<series>/<instance>.dcm` and the folder `incoming` beside it."""

    def __init__(self, root: Path, receiver: str | None = None, keeps_cached: bool = True) -> None:
        """Prepare.

        Args:
            root: the state folder.
            receiver: name of this process, when several write into the folder.
            keeps_cached: whether what was written stays in the system's memory until it is read.
        """
        self.root = root
        self._instances = root / "instances"
        self._incoming = root / "incoming" if receiver is None else root / "incoming" / receiver
        self._keeps_cached = keeps_cached
        self._durable_folders: set[Path] = set()
        self._names_follow_files = False

    def prepare(self) -> None:
        """Create the folders and drop what an interrupted run left half written; nothing there was acknowledged."""
        self._instances.mkdir(parents=True, exist_ok=True)
        if self._incoming.exists():
            shutil.rmtree(self._incoming)
        self._incoming.mkdir(parents=True)
        self._names_follow_files = names_follow_files(self._instances)

    def require(self) -> None:
        """Whether the folder is there at all: a shared file system may be gone for a while.

        Raises:
            OSError: ESTALE, it is gone.
        """
        if not self._instances.is_dir():
            raise OSError(errno.ESTALE, "the state folder is gone", str(self._instances))

    def path_of(self, study_uid: str, series_uid: str, instance_uid: str) -> Path:
        """Where an instance lies.

        Raises:
            UnsafeUidError: one of them is not a UID.
        """
        return (
            self._instances
            / require_uid(study_uid, "Study Instance UID (0020,000D)")
            / require_uid(series_uid, "Series Instance UID (0020,000E)")
            / f"{require_uid(instance_uid, 'SOP Instance UID (0008,0018)')}.dcm"
        )

    def study_folder(self, study_uid: str) -> Path:
        """Where the instances of a study lie, relative to the root.

        Raises:
            UnsafeUidError: not a UID.
        """
        folder = self._instances / require_uid(study_uid, "Study Instance UID (0020,000D)")
        return folder.relative_to(self.root)

    def put(self, parts: Iterable[bytes | memoryview], destination: Path) -> None:
        """Write a file; its content and its name are durable on return.

        It gets its name before it is synced: the usual journalling file systems then make both durable at once; on any
        other one its folder is synced as well. What a crash leaves under the name is in no index, and is replaced when
        it comes again.

        Raises:
            OSError: the disk is full or failing; nothing is left behind.
        """
        path = self._incoming / f"{uuid.uuid4().hex}.part"
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            try:
                _write(descriptor, parts)
                self._place(path, destination)
                path = destination
                os.fsync(descriptor)
                if not self._keeps_cached:
                    _let_go(descriptor)
            finally:
                os.close(descriptor)
            self._sync_names(destination)
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def _place(self, path: Path, destination: Path) -> None:
        try:
            os.replace(path, destination)
        except FileNotFoundError:
            destination.parent.mkdir(parents=True, exist_ok=True)
            self._durable_folders.discard(destination.parent)
            os.replace(path, destination)

    def _sync_names(self, destination: Path) -> None:
        series, study = destination.parent, destination.parent.parent
        if not self._names_follow_files or series not in self._durable_folders:
            sync_folder(series)
        # A folder's own name is durable once and for all; whoever made it may not have come to its sync yet.
        if series not in self._durable_folders:
            sync_folder(study)
            sync_folder(study.parent)
            if len(self._durable_folders) > _FOLDERS_REMEMBERED:
                self._durable_folders.clear()
            self._durable_folders.add(series)

    def free_megabytes(self) -> float:
        """Free disk under the folder, in units of 10^6 bytes."""
        return shutil.disk_usage(self.root).free / 1e6


def _write(descriptor: int, parts: Iterable[bytes | memoryview]) -> None:
    """Write all parts, in as few calls of the system as can be: each one is a turn at the interpreter given away."""
    left = deque(memoryview(part).cast("B") for part in parts)
    while left:
        written = os.writev(descriptor, list(islice(left, _PARTS_AT_ONCE)))
        while left and written >= len(left[0]):
            written -= len(left.popleft())
        if written:
            left[0] = left[0][written:]


def _let_go(descriptor: int) -> None:
    """Free the memory that holds what was written, for the next file: memory taken anew costs a guest system dearly."""
    with suppress(OSError):  # advice only
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def prefetch(paths: Iterable[Path]) -> None:
    """Let the system begin to read files that will be read soon; those that are not there are passed over."""
    for path in paths:
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
            finally:
                os.close(descriptor)
