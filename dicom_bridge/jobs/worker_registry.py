"""The processes that share a database: each says again and again that it lives, and who fell silent is found.

Times are the database's, so that it does not matter how well the machines' clocks agree.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import version

from sqlalchemy import ColumnElement, delete, func, select, update

from dicom_bridge.store.database import Database, insert_if_absent
from dicom_bridge.store.tables import WorkerRow

_FORGOTTEN_SECONDS = 7 * 86_400.0


class WorkerState(StrEnum):
    """LOST: another one has taken over what it had; it is ALIVE again with its next beat."""

    ALIVE = "alive"
    LEFT = "left"
    LOST = "lost"


@dataclass(frozen=True)
class Worker:
    """A process as the database knows it.

    Attributes:
        name: different from all others'.
        host: the machine.
        receives: whether it listens for DICOM.
        state: as it was told last.
        silent_seconds: since it said that it lives.
    """

    name: str
    host: str
    receives: bool
    state: WorkerState
    silent_seconds: float


class WorkerRegistry:
    """Who is there. On PostgreSQL only: SQLite serves one process. Safe to call from any thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def enter(self, name: str, receives: bool) -> None:
        """A process starts; those that left long ago are forgotten."""
        facts = {
            "host": socket.gethostname(),
            "version": version("rcmed"),
            "receives": receives,
            "state": WorkerState.ALIVE,
        }
        with self._database.writing() as session:
            times = {"started_at": _now(), "beat_at": _now()}
            if not insert_if_absent(session, WorkerRow, name=name, **facts, **times):
                session.execute(update(WorkerRow).where(WorkerRow.name == name).values(**facts, **times))
            gone = WorkerRow.state != WorkerState.ALIVE
            session.execute(delete(WorkerRow).where(gone, WorkerRow.beat_at < _now() - _FORGOTTEN_SECONDS))

    def beat(self, name: str) -> None:
        """It lives; also one that was held lost does."""
        with self._database.writing() as session:
            alive = {"beat_at": _now(), "state": WorkerState.ALIVE}
            session.execute(update(WorkerRow).where(WorkerRow.name == name).values(**alive))

    def leave(self, name: str) -> None:
        """It ends in good order; the others take over at once what it left unfinished."""
        with self._database.writing() as session:
            session.execute(update(WorkerRow).where(WorkerRow.name == name).values(state=WorkerState.LEFT))

    @contextmanager
    def taking_over(self, name: str, lost_seconds: float) -> Iterator[list[str]]:
        """Names of processes that left or fell silent, for one process at a time to take over.

        On leaving without an error they count as taken over. When the one that takes over is itself killed before,
        its locks end with its connection, and the next one finds the same names.

        Args:
            name: who takes over; never among the names.
            lost_seconds: silence that is too long.
        """
        with self._database.writing() as session:
            silent = (WorkerRow.state == WorkerState.ALIVE) & (WorkerRow.beat_at < _now() - lost_seconds)
            found = select(WorkerRow).where(silent | (WorkerRow.state == WorkerState.LEFT), WorkerRow.name != name)
            rows = list(session.scalars(found.with_for_update(skip_locked=True)))
            yield [row.name for row in rows]
            for row in rows:
                row.state = WorkerState.LOST

    def all(self) -> list[Worker]:
        """By name."""
        query = select(WorkerRow, _now() - WorkerRow.beat_at).order_by(WorkerRow.name)
        with self._database.reading() as session:
            return [
                Worker(row.name, row.host, row.receives, WorkerState(row.state), float(silent))
                for row, silent in session.execute(query)
            ]


def _now() -> ColumnElement[float]:
    return func.date_part("epoch", func.clock_timestamp())
