"""How studies came about: who brought what, and by which rule each generation was complete."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from dicom_bridge.store.database import Database
from dicom_bridge.store.tables import AssociationRow, GenerationRow, InstanceRow, ResendRow


@dataclass(frozen=True)
class BroughtBy:
    """An association (or a request by HTTP, or a look into a folder) and how many new instances it brought.

    Attributes:
        calling_ae, called_ae, address: who, to whom, from where.
        opened_at, released_at: seconds since the epoch; None: it is open.
        instances, series: how many that were new.
        is_aborted: whether it ended without a release.
        id: of the association in the index.
        again: how many instances that were there.
    """

    calling_ae: str
    called_ae: str
    address: str
    opened_at: float
    released_at: float | None
    instances: int
    series: int
    is_aborted: bool = False
    id: str = ""
    again: int = 0


class StudyTimeline:
    """Reads only. Every method is safe to call from any thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def associations(self, limit: int = 10) -> list[BroughtBy]:
        """The latest associations that brought instances, those that are open first."""
        is_open = AssociationRow.released_at.is_(None)
        query = select(AssociationRow.id).order_by(is_open.desc(), AssociationRow.opened_at.desc()).limit(limit)
        with self._database.reading() as session:
            latest = list(session.scalars(query))
            found = _brought(session, InstanceRow.association.in_(latest), ResendRow.association.in_(latest))
        return sorted(found, key=lambda one: (one.released_at is None, one.opened_at), reverse=True)

    def brought(self, study_uid: str) -> list[BroughtBy]:
        """Who brought the instances of a study, in the order of time."""
        with self._database.reading() as session:
            return _brought(session, InstanceRow.study_uid == study_uid, ResendRow.study_uid == study_uid)

    def generations(self, study_uid: str) -> list[GenerationRow]:
        """The generations of a study that were complete, first to last."""
        query = select(GenerationRow).where(GenerationRow.study_uid == study_uid).order_by(GenerationRow.generation)
        with self._database.reading() as session:
            return list(session.scalars(query))


def _brought(session: Session, which: ColumnElement[bool], again: ColumnElement[bool]) -> list[BroughtBy]:
    """What associations brought of some instances, new or again, in the order of time."""
    counted = (
        select(
            InstanceRow.association.label("id"),
            func.count().label("instances"),
            func.count(InstanceRow.series_uid.distinct()).label("series"),
        )
        .where(which)
        .group_by(InstanceRow.association)
        .subquery()
    )
    new = select(AssociationRow, counted.c.instances, counted.c.series).join(counted, counted.c.id == AssociationRow.id)
    summed = select(ResendRow.association.label("id"), func.sum(ResendRow.instances).label("again")).where(again)
    resent = summed.group_by(ResendRow.association).subquery()
    known = select(AssociationRow, resent.c.again).join(resent, resent.c.id == AssociationRow.id)
    rows = {row.id: (row, instances, series) for row, instances, series in session.execute(new)}
    counts: dict[str, int] = {}
    for row, count in session.execute(known):
        rows.setdefault(row.id, (row, 0, 0))
        counts[row.id] = int(count)
    return [
        BroughtBy(
            row.calling_ae,
            row.called_ae,
            row.peer,
            row.opened_at,
            row.released_at,
            instances,
            series,
            row.is_aborted,
            row.id,
            counts.get(row.id, 0),
        )
        for row, instances, series in sorted(rows.values(), key=lambda one: one[0].opened_at)
    ]
