"""How the tables came about, step by step (alembic): the same steps on SQLite and on PostgreSQL.

A change of `dicom_bridge.store.tables` comes with a new file in `versions`, whose `down_revision` is the last one's
`revision`; a test compares what the steps make with the tables. Steps only add: an older process may still run beside
a newer one.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, inspect, text

from rcmed.errors import ConfigurationError


class OlderTablesError(ConfigurationError):
    """There are no tables yet, or tables of an older version; the gateway makes them its own when it starts."""


_LOCK = 0x52434D6564  # any number that nobody else takes: "RCMed"


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Bring the tables up to date, in the connection's transaction; several processes may do it at once.

    A database without a version is a new one, or one of before there were versions: the first step leaves alone what
    is there.

    Args:
        connection: in a transaction that may write.
        revision: up to which step.
    Raises:
        ConfigurationError: the tables were made by a newer version.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    config = configuration()
    config.attributes["connection"] = connection
    if revision == "head" and _version(connection) == ScriptDirectory.from_config(config).get_current_head():
        return
    try:
        command.upgrade(config, revision)
    except CommandError as error:
        raise ConfigurationError(
            f"the tables of the index were made by a newer version ({error}): install that one again"
        ) from None


def require_current(connection: Connection) -> None:
    """Whether the tables are those of this version; nothing is changed.

    Raises:
        OlderTablesError: there are none yet, or they are of an older version.
        ConfigurationError: they were made by a newer version.
    """
    found, steps = _version(connection), ScriptDirectory.from_config(configuration())
    if found == steps.get_current_head():
        return
    if found is None:
        raise OlderTablesError("it has no tables of the index yet: the gateway makes them when it starts")
    if found not in {step.revision for step in steps.walk_revisions()}:
        raise ConfigurationError("the tables of the index were made by a newer version: install that one again")
    raise OlderTablesError("its tables are of an older version: the gateway brings them up to date when it starts")


def configuration() -> Config:
    """Where alembic finds the steps."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
