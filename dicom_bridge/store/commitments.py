"""Requests of storage commitment that we accepted: each is kept until its report was taken."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import select, update

from dicom_bridge.store.database import Database, insert_if_absent
from dicom_bridge.store.tables import CommitmentRow, InstanceRow

# Of several processes, the one that was asked reports first, and one that began to is not disturbed.
_FIRST_SECONDS = 2.0
_CLAIMED_SECONDS = 120.0
_AT_ONCE = 500  # variables of one statement; SQLite's own limit is higher


@dataclass(frozen=True)
class CommitmentRequest:
    """What a peer asked.

    Attributes:
        transaction_uid: its name.
        calling_ae, address: who asked, from where.
        objects: (SOP Class UID, SOP Instance UID).
    """

    transaction_uid: str
    calling_ae: str
    address: str
    objects: list[tuple[str, str]]


@dataclass(frozen=True)
class StoredInstance:
    """What the index knows of an instance; `path` is relative to the state folder."""

    sop_class_uid: str
    path: str


class CommitmentRequests:
    """Every method is safe to call from any thread; writes are durable on return."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def add(self, request: CommitmentRequest) -> None:
        """Write a request down; the same transaction again is asked anew."""
        with self._database.writing() as session:
            asked = {
                "calling_ae": request.calling_ae,
                "address": request.address,
                "objects": [list(pair) for pair in request.objects],
                "requested_at": self._clock(),
                "attempts": 0,
                "due_at": self._clock() + _FIRST_SECONDS,
                "reported_at": None,
            }
            if not insert_if_absent(session, CommitmentRow, transaction_uid=request.transaction_uid, **asked):
                again = CommitmentRow.transaction_uid == request.transaction_uid
                session.execute(update(CommitmentRow).where(again).values(**asked))

    def unreported(self) -> list[CommitmentRequest]:
        """Requests whose report was not taken yet, oldest first."""
        query = select(CommitmentRow).where(CommitmentRow.reported_at.is_(None)).order_by(CommitmentRow.requested_at)
        with self._database.reading() as session:
            return [
                CommitmentRequest(
                    row.transaction_uid, row.calling_ae, row.address, [(pair[0], pair[1]) for pair in row.objects]
                )
                for row in session.scalars(query)
            ]

    def due_at(self, transaction_uid: str) -> float:
        """When the next attempt is due, in seconds since the epoch."""
        with self._database.reading() as session:
            row = session.get(CommitmentRow, transaction_uid)
            return 0.0 if row is None else row.due_at

    def claim(self, transaction_uid: str, holds_association: bool) -> bool:
        """Whether this process is to report now; then the others leave it alone for a while.

        Args:
            transaction_uid: of the request.
            holds_association: the peer asked this process, on an association that may still be there: it need not
                wait until the attempt is due.
        """
        now = self._clock()
        with self._database.writing() as session:
            row = session.get(CommitmentRow, transaction_uid, with_for_update=True)
            if row is None or row.reported_at is not None or (row.due_at > now and not holds_association):
                return False
            row.due_at = now + _CLAIMED_SECONDS
            return True

    def attempts(self, transaction_uid: str) -> int:
        """How many attempts failed."""
        with self._database.reading() as session:
            row = session.get(CommitmentRow, transaction_uid)
            return 0 if row is None else row.attempts

    def put_off(self, transaction_uid: str, due_at: float) -> None:
        """An attempt failed; the next is due at a time."""
        with self._database.writing() as session:
            row = session.get(CommitmentRow, transaction_uid, with_for_update=True)
            if row is not None:
                row.attempts += 1
                row.due_at = due_at

    def reported(self, transaction_uid: str) -> None:
        """Nothing more is to be done."""
        with self._database.writing() as session:
            row = session.get(CommitmentRow, transaction_uid, with_for_update=True)
            if row is not None:
                row.reported_at = self._clock()

    def known_instances(self, uids: Sequence[str]) -> dict[str, StoredInstance]:
        """Those of the SOP Instance UIDs that are in the index."""
        found = {}
        with self._database.reading() as session:
            for start in range(0, len(uids), _AT_ONCE):
                query = select(InstanceRow.instance_uid, InstanceRow.sop_class_uid, InstanceRow.path).where(
                    InstanceRow.instance_uid.in_(uids[start : start + _AT_ONCE])
                )
                found.update({uid: StoredInstance(sop_class, path) for uid, sop_class, path in session.execute(query)})
        return found
