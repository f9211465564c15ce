"""The database under the index: SQLite in the state folder, or a PostgreSQL that several machines share."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, literal
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from dicom_bridge.security.secret_file import read_secret
from dicom_bridge.settings import DatabaseSettings
from dicom_bridge.store.migrations import OlderTablesError, require_current, upgrade
from dicom_bridge.store.tables import Table
from rcmed.errors import ConfigurationError

INDEX_FILE = "index.sqlite"
BUSY_TIMEOUT_MS = 30_000
_POSTGRESQL = {
    "connect_timeout": 10,
    # A peer that is gone without a word (a pulled cable) is noticed within a minute.
    "keepalives_idle": 20,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
    # A commit is on disk when it is told, whatever the server's default; a process that was paused in the middle of a
    # transaction loses its locks; and nobody waits for ever for someone else's.
    "options": "-c synchronous_commit=on -c idle_in_transaction_session_timeout=30s -c lock_timeout=30s",
}


class Database:
    """Sessions for reading and for writing; its tables are brought up to date when it is opened.

    On SQLite a writing session takes the write lock when it begins (BEGIN IMMEDIATE): a transaction that reads first
    and then writes would otherwise fail at once when another one wrote in between, busy timeout or not. On PostgreSQL
    writers run side by side: a transaction that reads first and then writes locks the row that it decides upon (the
    study, or the job) with `with_for_update`, which SQLite leaves out.
    """

    def __init__(self, where: Path | URL, only_to_look: bool = False) -> None:
        """Open, create what is missing, bring older tables up to date.

        Args:
            where: a file of SQLite, or the address of a PostgreSQL database.
            only_to_look: nothing is created or brought up to date, and nothing is to be written.
        Raises:
            OlderTablesError: `only_to_look`, and there are no tables yet, or those of an older version.
            ConfigurationError: the tables were made by a newer version.
            DBAPIError: it can't be reached or written.
        """
        if isinstance(where, Path):
            if only_to_look and not where.is_file():  # SQLite would make it
                raise OlderTablesError(f"{where}: is not there: the gateway makes it when it starts")
            where.parent.mkdir(parents=True, exist_ok=True)
            url = f"sqlite:///{where.resolve()}"
            self._reader = _sqlite_engine(url, "BEGIN")
            self._writer = _sqlite_engine(url, "BEGIN IMMEDIATE")
            self._lock: threading.Lock | None = threading.Lock()
            self._rows: Connection | None = None
        else:
            # Connections that a restart of the server broke are replaced before they are used.
            self._writer = create_engine(
                where, pool_pre_ping=True, pool_size=5, max_overflow=20, connect_args=_POSTGRESQL
            )
            self._reader = self._writer.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            self._lock = None
        try:
            if only_to_look:
                with self._reader.connect() as connection:
                    require_current(connection)
                return
            with self._writer.begin() as connection:
                upgrade(connection)
        except BaseException:
            self.close()
            raise

    @property
    def is_shared(self) -> bool:
        """Whether processes on other machines may use it, too."""
        return self._lock is None

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that sees one consistent state."""
        with Session(self._reader, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A session that is committed, and on disk, on leaving without an error."""
        with self._lock or nullcontext(), Session(self._writer, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def writing_rows(self) -> Iterator[Connection]:
        """A transaction without a session, for what is written most often: a session costs more than its few rows."""
        if self._lock is None:
            with self._writer.begin() as connection:
                yield connection
            return
        with self._lock:
            if self._rows is None:
                self._rows = self._writer.connect()  # and kept: taking one from the pool costs as much as the rows
            with self._rows.begin():
                yield self._rows

    def close(self) -> None:
        """Close all connections."""
        if self._lock is not None:
            with self._lock:
                if self._rows is not None:
                    self._rows.close()
                self._rows = None
        self._reader.dispose()
        self._writer.dispose()


def open_database(where: Path | URL, only_to_look: bool = False) -> Database:
    """A database, as `Database` opens it; a PostgreSQL that can't be used is a matter of the configuration.

    Raises:
        ConfigurationError: it can't be used; the text says why.
    """
    try:
        return Database(where, only_to_look)
    except OperationalError as error:
        if isinstance(where, Path):
            raise
        reason = str(error.orig).strip().splitlines()[0]
        raise ConfigurationError(f"database.url: {where} can't be used ({reason}): start it or mend url") from None


def index_address(settings: DatabaseSettings, state_folder: Path) -> Path | URL:
    """Where the index is; an address of PostgreSQL comes with the password, and shows it in no text.

    Raises:
        ConfigurationError: the file of the password can't be used.
    """
    if settings.address is None:
        return state_folder / INDEX_FILE
    if settings.password_file is None:
        return settings.address
    return settings.address.set(password=read_secret(settings.password_file, "database.password_file"))


def insert_if_absent(session: Session | Connection, table: type[Table], **values: Any) -> bool:
    """Insert a row unless one with its key is there; several processes may try at once.

    Returns:
        Whether it was inserted. When not, the other one is committed.
    """
    bind = session.get_bind() if isinstance(session, Session) else session
    dialect = postgresql if bind.dialect.name == "postgresql" else sqlite
    insert = dialect.insert(table).values(**values).on_conflict_do_nothing()
    return session.execute(insert.returning(literal(1))).first() is not None


def _sqlite_engine(url: str, begin: str) -> Engine:
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
