"""The audit trail: who brought, took or asked what, when, and how it ended.

Lines of JSON after IHE ATNA (events and codes of DICOM PS3.15 A.5), appended and never changed. Each line holds the
SHA-256 of the one before it, so a line that is altered, removed or put in between is found by `verify`. What the chain
alone can't show is that lines are missing at its end: the head is logged at start and stop, for a log collector on
another machine to keep. UIDs, AE titles and addresses; no patient's name or number.

A file that has become too large or too old is closed: `audit.jsonl` is renamed `audit.0000004711.jsonl` after the
number of its last record, and the chain goes on in a new `audit.jsonl`. Closed files may be moved elsewhere, the oldest
first.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any

from rcmed.durable_files import sync_folder
from rcmed.errors import RCMedError

_FIRST = "0" * 64
_TAIL = 1 << 16


class AuditError(RCMedError):
    """The trail is broken; the text names file and line."""


class AuditEvent(Enum):
    """(code of DCM, meaning) of the events that are recorded (PS3.16 CID 400 and 401)."""

    APPLICATION_ACTIVITY = ("110100", "Application Activity")
    APPLICATION_START = ("110120", "Application Start")
    APPLICATION_STOP = ("110121", "Application Stop")
    INSTANCES_TRANSFERRED = ("110104", "DICOM Instances Transferred")
    EXPORT = ("110106", "Export")
    STUDY_DELETED = ("110105", "DICOM Study Deleted")
    NODE_AUTHENTICATION = ("110126", "Node Authentication")
    USER_AUTHENTICATION = ("110114", "User Authentication")


class Outcome(IntEnum):
    """Event Outcome Indicator (RFC 3881, 5.1)."""

    SUCCESS = 0
    MINOR_FAILURE = 4
    SERIOUS_FAILURE = 8


@dataclass(frozen=True)
class Rotation:
    """When a file of the trail is closed and the next one begun; None: never for that reason.

    Attributes:
        bytes: a file that has as many.
        seconds: a file whose first record is as old.
    """

    bytes: int | None = None
    seconds: float | None = None


class AuditTrail:
    """Appends records. Each is durable when `record` returns; safe to call from any thread."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time, rotation: Rotation | None = None) -> None:
        """Open a trail and take up its chain; a line that a crash left half written is put aside, and that is recorded.

        Args:
            path: of the file that is written to; closed ones lie beside it.
            clock: seconds since the epoch.
            rotation: when a file is closed; None: never.
        Raises:
            AuditError: the last line is whole but no record.
            OSError: the file can't be written.
        """
        self._path = path
        self._clock = clock
        self._rotation = rotation or Rotation()
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        torn = _put_torn_line_aside(path)
        self._number, self._head = _last_of_all(path)
        self._open()
        if torn is not None:
            self.record(AuditEvent.APPLICATION_START, Outcome.MINOR_FAILURE, torn_line=torn.name)

    @property
    def head(self) -> str:
        """SHA-256 of the last record: whoever keeps it elsewhere can tell later whether records are missing."""
        return self._head

    def record(self, event: AuditEvent, outcome: Outcome, **facts: Any) -> None:
        """Append a record.

        Args:
            event: what happened.
            outcome: how it ended.
            facts: who and what: names, UIDs, counts; values of JSON. None is left out.
        Raises:
            OSError: it can't be written.
        """
        code, meaning = event.value
        with self._lock:
            if self._is_full():
                self._begin_next_file()
            record = {
                "number": self._number + 1,
                "time": datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="milliseconds"),
                "event": {"code": code, "scheme": "DCM", "meaning": meaning},
                "outcome": int(outcome),
                **{name: value for name, value in facts.items() if value is not None},
                "previous": self._head,
            }
            digest = _digest(record)
            self._file.write((json.dumps({**record, "sha256": digest}, ensure_ascii=True) + "\n").encode())
            self._file.flush()
            os.fsync(self._file.fileno())
            self._number, self._head = self._number + 1, digest

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _open(self) -> None:
        self._file = self._path.open("ab")
        os.chmod(self._path, 0o600)
        self._since = _first_time(self._path)

    def _is_full(self) -> bool:
        size = self._file.tell()
        if size == 0:
            return False
        if self._since is None:
            self._since = _first_time(self._path)
        most, oldest = self._rotation.bytes, self._rotation.seconds
        too_large = most is not None and size >= most
        return too_large or (oldest is not None and self._since is not None and self._clock() - self._since >= oldest)

    def _begin_next_file(self) -> None:
        # The name appears at once and whole; a crash here leaves no `audit.jsonl`, and the next start goes on all the
        # same.
        closed = self._path.with_name(f"{self._path.stem}.{self._number:010d}{self._path.suffix}")
        os.rename(self._path, closed)
        self._file.close()
        self._open()
        sync_folder(self._path.parent)


@dataclass(frozen=True)
class Verified:
    """A trail whose chain is whole.

    Attributes:
        first, last: numbers of the first and the last record that are there; 0 where there is none. Records before
            the first one were moved elsewhere.
        files: how many.
    """

    first: int
    last: int
    files: int

    @property
    def records(self) -> int:
        """How many are there."""
        return self.last - self.first + 1 if self.last else 0


def trail_files(path: Path) -> list[Path]:
    """The files of a trail that are there, oldest first; `path` is the one that is written to."""
    pattern = re.compile(rf"{re.escape(path.stem)}\.[0-9]{{10}}{re.escape(path.suffix)}")
    closed = sorted(file for file in path.parent.glob(f"{path.stem}.*") if pattern.fullmatch(file.name))
    return [*closed, *([path] if path.exists() else [])]


def verify(path: Path) -> int:
    """Check a trail, closed files included; returns the number of its records.

    Raises:
        AuditError: as `verified` does.
        OSError: a file can't be read.
    """
    return verified(path).records


def verified(path: Path) -> Verified:
    """Check a trail, closed files included.

    Raises:
        AuditError: a line is no record, was altered, or one before it is missing; the text names file and line.
        OSError: a file can't be read.
    """
    head: str | None = None
    first = number = 0
    files = trail_files(path)
    for place in files:
        with place.open("rb") as file:
            for line_number, line in enumerate(file, start=1):
                record = _parse(line, place, line_number)
                recorded = record.pop("sha256", None)
                if head is None:
                    first = number = record["number"] if isinstance(record.get("number"), int) else -1
                    head = _FIRST if first == 1 else str(record.get("previous"))
                else:
                    number += 1
                if first < 1 or record.get("number") != number or record.get("previous") != head:
                    raise AuditError(
                        f"{place}: line {line_number}: records before it are missing or were put in another order"
                    )
                if recorded != _digest(record):
                    raise AuditError(f"{place}: line {line_number}: it was altered after it was written")
                head = str(recorded)
    return Verified(first, number, len(files))


def _digest(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _parse(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise AuditError(f"{path}: line {number}: no record of an audit trail")
    return record


def _last_of_all(path: Path) -> tuple[int, str]:
    for file in reversed(trail_files(path)):
        number, head = _last_record(file)
        if number:
            return number, head
    return 0, _FIRST


def _first_time(path: Path) -> float | None:
    """When the first record of a file was written, in seconds since the epoch; None where that can't be told."""
    with path.open("rb") as file:
        line = file.readline()
    try:
        return datetime.fromisoformat(json.loads(line)["time"]).timestamp()
    except (ValueError, KeyError, TypeError):
        return None


def _last_record(path: Path) -> tuple[int, str]:
    lines = _tail(path).splitlines()
    if not lines:
        return 0, _FIRST
    record = _parse(lines[-1], path, -1)
    if not isinstance(record.get("number"), int) or not isinstance(record.get("sha256"), str):
        raise AuditError(f"{path}: the last line is no record of an audit trail: move the file away")
    return record["number"], record["sha256"]


def _put_torn_line_aside(path: Path) -> Path | None:
    tail = _tail(path)
    if not tail or tail.endswith(b"\n"):
        return None
    torn = tail[tail.rfind(b"\n") + 1 :]
    aside = path.with_name(f"{path.name}.torn-{time.time_ns()}")
    aside.write_bytes(torn)
    os.truncate(path, path.stat().st_size - len(torn))
    return aside


def _tail(path: Path) -> bytes:
    """The end of a file, with its last line whole."""
    if not path.exists():
        return b""
    size, length = path.stat().st_size, _TAIL
    with path.open("rb") as file:
        while True:
            file.seek(max(size - length, 0))
            tail = file.read()
            if length >= size or b"\n" in tail[:-1]:
                return tail
            length *= 8
