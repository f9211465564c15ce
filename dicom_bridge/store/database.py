"""The SQLite database under the index: write-ahead log, busy timeout, durable commits, one writer at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.orm import Session

from dicom_bridge.store.tables import Table

BUSY_TIMEOUT_MS = 30_000


class Database:
    """Sessions for reading and for writing.

    A writing session takes SQLite's write lock when it begins (BEGIN IMMEDIATE): a transaction that reads first and
    then writes would otherwise fail at once when another one wrote in between, busy timeout or not.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        url = f"sqlite:///{path.resolve()}"
        self._reader = _engine(url, "BEGIN")
        self._writer = _engine(url, "BEGIN IMMEDIATE")
        self._lock = threading.Lock()
        with self._writer.begin() as connection:
            Table.metadata.create_all(connection)
            # `create_all` leaves tables alone that are there: an older folder lacks the indexes that came later.
            for table in Table.metadata.tables.values():
                for index in table.indexes:
                    index.create(connection, checkfirst=True)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that sees one consistent state."""
        with Session(self._reader, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A session that is committed, and on disk, on leaving without an error."""
        with self._lock, Session(self._writer, expire_on_commit=False) as session, session.begin():
            yield session

    def close(self) -> None:
        """Close all connections."""
        self._reader.dispose()
        self._writer.dispose()


def _engine(url: str, begin: str) -> Engine:
    engine = create_engine(url, connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_MS / 1000})

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions are begun below, not by the driver
        for pragma in ("journal_mode = WAL", f"busy_timeout = {BUSY_TIMEOUT_MS}", "synchronous = FULL"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql(begin)

    return engine
