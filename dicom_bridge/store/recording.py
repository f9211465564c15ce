"""The rows of many arriving instances, written by few statements in one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from dicom_bridge.store.database import insert_if_absent
from dicom_bridge.store.tables import CompletionMarkRow, InstanceRow, SeriesRow, StudyRow
from dicom_bridge.studies.routing import SeriesFacts


@dataclass(frozen=True)
class ReceivedInstance:
    """What the receiver knows of an instance that lies on disk.

    Attributes:
        study_uid, series_uid, instance_uid, sop_class_uid, transfer_syntax_uid: validated.
        path: relative to the state folder.
        facts: of its series, as this instance tells.
        expected: how many instances it says that its study has; None: it does not say.
    """

    study_uid: str
    series_uid: str
    instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    path: str
    facts: SeriesFacts
    expected: int | None = None


# Made once: SQLAlchemy takes longer to put a statement together than SQLite to answer it.
_STUDIES: Any = StudyRow.__table__
_SERIES: Any = SeriesRow.__table__
_INSTANCES: Any = InstanceRow.__table__
_MARKS: Any = CompletionMarkRow.__table__
# A statement for each study and series: there is rarely more than one at a time, and a list of any length costs more
# than that.
_LOCK = select(_STUDIES.c.study_uid).where(_STUDIES.c.study_uid == bindparam("study")).with_for_update()
_KNOWN_SERIES = select(_SERIES.c.series_uid).where(
    _SERIES.c.study_uid == bindparam("study"), _SERIES.c.series_uid == bindparam("series")
)
_REOPEN = (
    update(_STUDIES)
    .where(_STUDIES.c.study_uid == bindparam("grown"))
    .values(last_received_at=bindparam("now"), is_open=True)
)
_LAST_EXPECTED = (
    select(_MARKS.c.expected)
    .where(_MARKS.c.study_uid == bindparam("study"), _MARKS.c.is_trigger.is_(False))
    .order_by(_MARKS.c.id.desc())
    .limit(1)
)

# As text, for SQLite: what SQLAlchemy does for a statement takes several times what SQLite needs for it.
_COLUMNS = tuple(column.name for column in _INSTANCES.columns)
_REOPEN_TEXT = f"UPDATE {_STUDIES.name} SET last_received_at = ?, is_open = 1 WHERE study_uid = ?"

Arriving = tuple[ReceivedInstance, str]
"""An instance, and the id of the association that brought it."""


def record(connection: Connection, arriving: Sequence[Arriving], now: float) -> list[bool]:
    """Record instances in a transaction that is writing, and open their studies.

    Several processes may record at once: studies are locked in the order of their UIDs, so none waits for another that
    waits for it.

    Args:
        arriving: in the order in which they came.
        now: seconds since the epoch.
    Returns:
        for each False when it was there already: a duplicate is no arrival and reopens nothing.
    """
    rows = [_row(instance, association, now) for instance, association in arriving]
    if connection.dialect.name != "sqlite" or not _insert_new(connection, rows, now):
        return _insert_any(connection, arriving, rows, now)
    _expect_all(connection, arriving, now)
    return [True] * len(rows)


def _row(instance: ReceivedInstance, association: str, now: float) -> dict[str, Any]:
    return {
        "study_uid": instance.study_uid,
        "series_uid": instance.series_uid,
        "instance_uid": instance.instance_uid,
        "sop_class_uid": instance.sop_class_uid,
        "transfer_syntax_uid": instance.transfer_syntax_uid,
        "path": instance.path,
        "received_at": now,
        "association": association,
    }


def _insert_new(connection: Connection, rows: Sequence[Mapping[str, Any]], now: float) -> bool:
    """Insert instances that are all new, of series that are there: most are.

    Returns:
        False: some are not, by the keys of the tables; nothing is changed.
    """
    try:
        connection.exec_driver_sql(_insert_text(len(rows)), tuple(row[name] for row in rows for name in _COLUMNS))
    except IntegrityError:
        return False
    for study_uid in {row["study_uid"] for row in rows}:
        connection.exec_driver_sql(_REOPEN_TEXT, (now, study_uid))
    return True


@lru_cache
def _insert_text(count: int) -> str:
    places = ", ".join(["(" + ", ".join("?" * len(_COLUMNS)) + ")"] * count)
    return f"INSERT INTO {_INSTANCES.name} ({', '.join(_COLUMNS)}) VALUES {places}"


def _insert_any(
    connection: Connection, arriving: Sequence[Arriving], rows: Sequence[Mapping[str, Any]], now: float
) -> list[bool]:
    """Insert those that are new, with their studies and series."""
    _lock_studies(connection, {instance.study_uid: instance.facts for instance, _ in reversed(arriving)}, now)
    _know_series(connection, {(i.study_uid, i.series_uid): i.facts for i, _ in reversed(arriving)})
    inserted = {tuple(row) for row in connection.execute(_insert(connection.dialect.name), rows)}
    is_new = []
    for row in rows:
        key = (row["study_uid"], row["series_uid"], row["instance_uid"])
        is_new.append(key in inserted)
        inserted.discard(key)  # the same one again in this group is a duplicate
    grown = sorted({str(row["study_uid"]) for row, new in zip(rows, is_new, strict=True) if new})
    for study_uid in grown:
        connection.execute(_REOPEN, {"grown": study_uid, "now": now})
    _expect_all(connection, [one for one, new in zip(arriving, is_new, strict=True) if new], now)
    return is_new


def _lock_studies(connection: Connection, facts: Mapping[str, SeriesFacts], now: float) -> None:
    """Make the studies that are not there; until the transaction's end nobody else takes or closes any of them."""
    for study_uid in sorted(facts):
        # One that is there may be removed before it is locked.
        while connection.scalar(_LOCK, {"study": study_uid}) is None:
            if insert_if_absent(
                connection,
                StudyRow,
                study_uid=study_uid,
                description=facts[study_uid].study_description,
                first_received_at=now,
                last_received_at=now,
                generation=0,
                is_open=True,
            ):
                break


def _know_series(connection: Connection, facts: Mapping[tuple[str, str], SeriesFacts]) -> None:
    """Make the series that are not there."""
    for study_uid, series_uid in sorted(facts):
        if connection.scalar(_KNOWN_SERIES, {"study": study_uid, "series": series_uid}) is not None:
            continue
        series = facts[study_uid, series_uid]
        insert_if_absent(
            connection,
            SeriesRow,
            study_uid=study_uid,
            series_uid=series_uid,
            modality=series.modality,
            body_part=series.body_part,
            description=series.series_description,
            protocol_name=series.protocol_name,
            calling_ae=series.calling_ae,
            called_ae=series.called_ae,
            priority=series.priority,
        )


def _expect_all(connection: Connection, arriving: Sequence[Arriving], now: float) -> None:
    for instance, _ in arriving:
        if instance.expected is not None:
            _expect(connection, instance.study_uid, instance.expected, now)


def _expect(connection: Connection, study_uid: str, expected: int, now: float) -> None:
    """Note what the instances of a study say of their number, once for each time that they say another one."""
    last = connection.scalar(_LAST_EXPECTED, {"study": study_uid})
    if last != expected:
        row = {"study_uid": study_uid, "at": now, "expected": expected, "is_trigger": False}
        connection.execute(insert(_MARKS), row)


@lru_cache
def _insert(dialect: str) -> Any:
    """Insert instances that are not there; tells the keys of those that were inserted."""
    statement = (postgresql if dialect == "postgresql" else sqlite).insert(_INSTANCES).on_conflict_do_nothing()
    return statement.returning(_INSTANCES.c.study_uid, _INSTANCES.c.series_uid, _INSTANCES.c.instance_uid)
