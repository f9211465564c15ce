"""Orders to fetch: written down before they are acknowledged, worked off in the order in which they came."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum

from sqlalchemy import func, select, update

from dicom_bridge.store.database import Database, insert_if_absent
from dicom_bridge.store.tables import PullRow

_LEASE_SECONDS = 900.0


class PullState(StrEnum):
    """Of an order. WAITING and PULLING go on after a restart."""

    WAITING = "waiting"
    PULLING = "pulling"
    DONE = "done"
    FAILED = "failed"  # given up


FINAL_PULL_STATES = (PullState.DONE, PullState.FAILED)


class PullOrders:
    """Every method is safe to call from any thread; writes are durable on return."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def add_studies(self, source: str, studies: Iterable[str]) -> int:
        """Order studies; one that is at its end is looked at again. Returns how many were not waiting already."""
        count = 0
        now = self._clock()
        with self._database.writing() as session:
            for study_uid in studies:
                identifier = f"{source}/{study_uid}"
                fresh = {"state": PullState.WAITING, "attempts": 0, "due_at": now, "asked_at": now, "text": None}
                if insert_if_absent(
                    session, PullRow, id=identifier, source=source, study_uid=study_uid, query=None, **fresh
                ):
                    count += 1
                    continue
                again = update(PullRow).where(PullRow.id == identifier, PullRow.state.in_(FINAL_PULL_STATES))
                count += session.execute(again.values(**fresh).returning(PullRow.id)).first() is not None
        return count

    def add_query(self, source: str, query: Mapping[str, str]) -> str:
        """Order what meets a query; returns the id of the order."""
        now = self._clock()
        identifier = uuid.uuid4().hex
        with self._database.writing() as session:
            session.add(
                PullRow(
                    id=identifier,
                    source=source,
                    study_uid=None,
                    query=dict(query),
                    state=PullState.WAITING,
                    attempts=0,
                    due_at=now,
                    asked_at=now,
                    text=None,
                )
            )
        return identifier

    def take_up_again(self) -> None:
        """At the start of the only process: what was being fetched when the last one ended is due."""
        with self._database.writing() as session:
            pulling = update(PullRow).where(PullRow.state == PullState.PULLING)
            session.execute(pulling.values(state=PullState.WAITING, due_at=self._clock()))

    def next(self, sources: Iterable[str], studies_too: bool) -> PullRow | None:
        """Claim the next order that is due: for a while nobody else gets it.

        Args:
            sources: names of the archives that can be asked.
            studies_too: False: queries only.
        """
        now = self._clock()
        due = select(PullRow).where(
            PullRow.state.not_in(FINAL_PULL_STATES), PullRow.due_at <= now, PullRow.source.in_(list(sources))
        )
        if not studies_too:
            due = due.where(PullRow.study_uid.is_(None))
        # Queries first: they only make orders.
        due = due.order_by(PullRow.study_uid.is_not(None), PullRow.asked_at, PullRow.id).limit(1)
        with self._database.writing() as session:
            row = session.scalar(due.with_for_update(skip_locked=True))
            if row is not None:
                row.state = PullState.PULLING
                row.attempts += 1
                row.due_at = now + _LEASE_SECONDS
            return row

    def is_pulling(self, study_uid: str) -> bool:
        """Whether somebody is fetching a study now."""
        query = select(PullRow.id).where(
            PullRow.state == PullState.PULLING, PullRow.due_at > self._clock(), PullRow.study_uid == study_uid
        )
        with self._database.reading() as session:
            return session.scalar(query.limit(1)) is not None

    def keep(self, identifier: str) -> None:
        """It is still being worked on: nobody else gets it for a while."""
        self._set(identifier, due_at=self._clock() + _LEASE_SECONDS)

    def finish(self, identifier: str, state: PullState, text: str) -> None:
        """End an order."""
        self._set(identifier, state=state, text=text)

    def postpone(self, identifier: str, seconds: float, text: str) -> None:
        """Try again later."""
        self._set(identifier, state=PullState.WAITING, due_at=self._clock() + seconds, text=text)

    def counts(self) -> dict[str, int]:
        """State -> number of orders."""
        with self._database.reading() as session:
            rows = session.execute(select(PullRow.state, func.count()).group_by(PullRow.state))
            return {state: count for state, count in rows}

    def latest(self, limit: int = 200) -> list[PullRow]:
        """Orders, latest first."""
        query = select(PullRow).order_by(PullRow.asked_at.desc(), PullRow.id).limit(limit)
        with self._database.reading() as session:
            return list(session.scalars(query))

    def _set(self, identifier: str, **values: object) -> None:
        with self._database.writing() as session:
            session.execute(update(PullRow).where(PullRow.id == identifier).values(**values))
