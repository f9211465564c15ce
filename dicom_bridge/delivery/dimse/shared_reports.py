"""Reports of storage commitment when the process that waits for one is not the one that a peer brings it to."""

from __future__ import annotations

import time
from collections.abc import Callable

from pydicom.dataset import Dataset
from sqlalchemy import delete, select, update
from sqlalchemy.exc import DBAPIError

from dicom_bridge.delivery.dimse.commitment import CommitmentReport, CommitmentReports
from dicom_bridge.store.database import Database
from dicom_bridge.store.tables import AwaitedReportRow

_LOOK_SECONDS = 0.5
_FORGOTTEN_SECONDS = 86_400.0


class SharedCommitmentReports(CommitmentReports):
    """The same, and what is waited for is also written down: a peer may bring it to another process."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        super().__init__()
        self._database = database
        self._clock = clock

    def expect(self) -> str:
        """A new Transaction UID whose report will be waited for."""
        transaction = super().expect()
        now = self._clock()
        with self._database.writing() as session:
            session.execute(delete(AwaitedReportRow).where(AwaitedReportRow.expected_at < now - _FORGOTTEN_SECONDS))
            session.add(AwaitedReportRow(transaction_uid=transaction, expected_at=now, kept=None, failed=None))
        return transaction

    def arrived(self, information: Dataset) -> bool:
        """Take the Event Information of an N-EVENT-REPORT; False when nobody waits for it (any more)."""
        if super().arrived(information):
            return True
        transaction, report = self.read(information)
        brought = (
            update(AwaitedReportRow)
            .where(AwaitedReportRow.transaction_uid == transaction)
            .values(kept=sorted(report.kept), failed=[list(pair) for pair in report.failed])
            .returning(AwaitedReportRow.transaction_uid)
        )
        with self._database.writing() as session:
            return session.scalar(brought) is not None

    def wait(self, transaction: str, seconds: float) -> CommitmentReport | None:
        """The report, or None when it did not come in time."""
        deadline = time.monotonic() + seconds
        while True:
            left = deadline - time.monotonic()
            report = super().wait(transaction, max(min(left, _LOOK_SECONDS), 0.0)) or self._brought(transaction)
            if report is not None or left <= 0:
                return report

    def forget(self, transaction: str) -> None:
        """Nobody waits any more."""
        super().forget(transaction)
        with self._database.writing() as session:
            session.execute(delete(AwaitedReportRow).where(AwaitedReportRow.transaction_uid == transaction))

    def _brought(self, transaction: str) -> CommitmentReport | None:
        query = select(AwaitedReportRow.kept, AwaitedReportRow.failed)
        try:
            with self._database.reading() as session:
                row = session.execute(query.where(AwaitedReportRow.transaction_uid == transaction)).first()
        except DBAPIError:
            return None  # looked at again soon
        if row is None or row.kept is None:
            return None
        return CommitmentReport(frozenset(row.kept), tuple((str(uid), int(reason)) for uid, reason in row.failed))
