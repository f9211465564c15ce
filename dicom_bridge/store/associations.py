"""Who brought what: associations, and what stands for one (a request by HTTP, a look into a folder)."""

from __future__ import annotations

import logging
import time
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import InstrumentedAttribute

from dicom_bridge.store.database import Database
from dicom_bridge.store.tables import AssociationRow, InstanceRow

_LOG = logging.getLogger(__name__)


class AssociationIndex:
    """The associations. Every method is safe to call from any thread; writes are durable on return."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time, receiver: str | None = None) -> None:
        """Prepare.

        Args:
            database: holds the tables.
            clock: seconds since the epoch; the machines that share a database keep theirs together (NTP).
            receiver: name of this process among those that share the database.
        """
        self._database = database
        self._clock = clock
        self._receiver = receiver
        self._not_released: deque[tuple[str, float, bool]] = deque()

    def open_association(self, calling_ae: str, called_ae: str, peer: str) -> str:
        """Record an association; returns its id."""
        association = uuid.uuid4().hex
        with self._database.writing() as session:
            session.add(
                AssociationRow(
                    id=association,
                    calling_ae=calling_ae,
                    called_ae=called_ae,
                    peer=peer,
                    opened_at=self._clock(),
                    released_at=None,
                    receiver=self._receiver,
                )
            )
        return association

    def release_association(self, association: str, is_aborted: bool = False) -> None:
        """Record that an association ended; the first end counts.

        An end that can't be recorded now is recorded by `release_the_rest`; nobody would tell of it again.

        Args:
            association: its id.
            is_aborted: whether it ended without a release.
        """
        ended_at = self._clock()
        try:
            self._release(association, ended_at, is_aborted)
        except DBAPIError as error:
            _LOG.warning("the end of an association can't be recorded now: %s", str(error.orig).partition("\n")[0])
            self._not_released.append((association, ended_at, is_aborted))

    def release_the_rest(self) -> None:
        """Record the ends of associations that could not be recorded when they ended.

        Raises:
            DBAPIError: they still can't be.
        """
        while self._not_released:
            self._release(*self._not_released[0])
            self._not_released.popleft()

    def _release(self, association: str, ended_at: float, is_aborted: bool) -> None:
        with self._database.writing() as session:
            session.execute(
                update(AssociationRow)
                .where(AssociationRow.id == association, AssociationRow.released_at.is_(None))
                .values(released_at=ended_at, is_aborted=is_aborted)
            )

    def release_all_associations(self, receiver: str | None = None) -> list[str]:
        """No association outlives the process that held it; returns those that were still open.

        They count as released: what was not acknowledged is sent again, and opens the next generation.

        Args:
            receiver: the process that is gone; None: this one, at its start.
        """
        still_open = [
            AssociationRow.released_at.is_(None),
            same_or_both_absent(AssociationRow.receiver, self._receiver if receiver is None else receiver),
        ]
        with self._database.writing() as session:
            ended = list(
                session.scalars(select(AssociationRow.id).where(*still_open).order_by(AssociationRow.opened_at))
            )
            session.execute(update(AssociationRow).where(*still_open).values(released_at=self._clock()))
        return ended

    def transferred(self, association: str) -> dict[str, Any]:
        """Who an association was with, and how many new instances of which studies it brought."""
        with self._database.reading() as session:
            row = session.get(AssociationRow, association)
            if row is None:
                return {}
            counts = session.execute(
                select(InstanceRow.study_uid, func.count())
                .where(InstanceRow.association == association)
                .group_by(InstanceRow.study_uid)
                .order_by(InstanceRow.study_uid)
            )
            return {
                "calling_ae": row.calling_ae,
                "called_ae": row.called_ae,
                "address": row.peer,
                "studies": {study: count for study, count in counts},
            }


def same_or_both_absent(column: InstrumentedAttribute[str | None], value: str | None) -> ColumnElement[bool]:
    """Equal, or both nothing; unlike IS NOT DISTINCT FROM, PostgreSQL finds it by an index."""
    return column.is_(None) if value is None else column == value
