"""The audit trail: who brought, took or asked what, when, and how it ended.

Lines of JSON after IHE ATNA (events and codes of DICOM PS3.15 A.5), appended and never changed. Each line holds the
SHA-256 of the one before it, so a line that is altered, removed or put in between is found by `verify`. What the chain
alone can't show is that lines are missing at its end: the head is logged at start and stop, for a log collector on
another machine to keep. UIDs, AE titles and addresses; no patient's name or number.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any

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
    NODE_AUTHENTICATION = ("110126", "Node Authentication")
    USER_AUTHENTICATION = ("110114", "User Authentication")


class Outcome(IntEnum):
    """Event Outcome Indicator (RFC 3881, 5.1)."""

    SUCCESS = 0
    MINOR_FAILURE = 4
    SERIOUS_FAILURE = 8


class AuditTrail:
    """Appends records. Each is durable when `record` returns; safe to call from any thread."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        """Open a trail and take up its chain; a line that a crash left half written is put aside, and that is recorded.

        Raises:
            AuditError: the last line is whole but no record.
            OSError: the file can't be written.
        """
        self._clock = clock
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        torn = _put_torn_line_aside(path)
        self._number, self._head = _last_record(path)
        self._file = path.open("ab")
        os.chmod(path, 0o600)
        if torn is not None:
            self.record(AuditEvent.APPLICATION_START, Outcome.MINOR_FAILURE, torn_line=torn.name)

    @property
    def head(self) -> str:
        """SHA-256 of the last record: whoever keeps it elsewhere can tell later whether records are missing."""
        return self._head

    def record(self, event: AuditEvent, outcome: Outcome, **told: Any) -> None:
        """Append a record.

        Args:
            event: what happened.
            outcome: how it ended.
            told: who and what: names, UIDs, counts; values of JSON. None is left out.
        Raises:
            OSError: it can't be written.
        """
        code, meaning = event.value
        with self._lock:
            record = {
                "number": self._number + 1,
                "time": datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="milliseconds"),
                "event": {"code": code, "scheme": "DCM", "meaning": meaning},
                "outcome": int(outcome),
                **{name: value for name, value in told.items() if value is not None},
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


def verify(path: Path) -> int:
    """Check a whole trail; returns the number of its records.

    Raises:
        AuditError: a line is no record, was altered, or one before it is missing; the text names the line.
        OSError: the file can't be read.
    """
    head = _FIRST
    number = 0
    with path.open("rb") as file:
        for line in file:
            number += 1
            record = _parse(line, path, number)
            told = record.pop("sha256", None)
            if record.get("number") != number or record.get("previous") != head:
                raise AuditError(f"{path}: line {number}: records before it are missing or were put in another order")
            if told != _digest(record):
                raise AuditError(f"{path}: line {number}: it was altered after it was written")
            head = str(told)
    return number


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
    if not path.exists():
        return b""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - _TAIL, 0))
        return file.read()
