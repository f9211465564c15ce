"""Settings of the database, and of the processes that share it."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from dicom_bridge.settings.base import ConfiguredFile, Settings

_DRIVER = "postgresql+psycopg"


def _of_postgresql(text: str) -> str:
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ValueError(f"must be like {_DRIVER}://rcmed@db.hospital.example:5432/rcmed") from None
    if url.drivername not in (_DRIVER, "postgresql"):
        raise ValueError(f"must begin with {_DRIVER}://; without a url the gateway uses SQLite in its state folder")
    if url.password is not None or "password" in url.query:
        raise ValueError("must not hold the password: put it into password_file, or into PGPASSWORD or ~/.pgpass")
    if not url.database:
        raise ValueError(f"must name the database, like {_DRIVER}://rcmed@db.hospital.example:5432/rcmed")
    return url.set(drivername=_DRIVER).render_as_string()


class DatabaseSettings(Settings):
    """Where index and jobs are kept.

    Attributes:
        url: of a PostgreSQL database that several machines share, without the password; None: SQLite files in the
            state folder, for one process.
        password_file: a file with the password; None: as libpq finds it (PGPASSWORD, ~/.pgpass, certificates).
    """

    url: Annotated[str, AfterValidator(_of_postgresql)] | None = None
    password_file: ConfiguredFile | None = None

    @property
    def address(self) -> URL | None:
        """Where PostgreSQL is, without the password; None: SQLite."""
        return None if self.url is None else make_url(self.url)


class WorkerSettings(Settings):
    """The processes that share one PostgreSQL database and one state folder.

    Attributes:
        name: of this process, different from all others'; None: the machine's name and the first free number.
        heartbeat_seconds: how often each says that it lives.
        lost_seconds: one that said nothing for so long is lost, and another one takes its jobs over.
    """

    name: str | None = Field(default=None, min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")
    heartbeat_seconds: float = Field(default=5.0, gt=0)
    lost_seconds: float = Field(default=60.0, gt=0)

    @model_validator(mode="after")
    def _beats_fit_in(self) -> WorkerSettings:
        if self.lost_seconds < 3 * self.heartbeat_seconds:
            raise ValueError("lost_seconds must be at least three times heartbeat_seconds: one late beat is no loss")
        return self
