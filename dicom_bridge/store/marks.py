"""What people said of findings: right, or wrong. Who said it is in the audit trail."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum

from sqlalchemy import delete, func, select, update

from dicom_bridge.store.database import Database, insert_if_absent
from dicom_bridge.store.tables import FindingMarkRow


class Mark(StrEnum):
    """What somebody said of a finding, found or absent."""

    RIGHT = "right"
    WRONG = "wrong"


class FindingMarks:
    """The last mark of each finding. Every method is safe to call from any thread; writes are durable on return."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def set(
        self, job_id: str, drive: int, image: int, finding: int, mark: Mark | None, target: str, status: str
    ) -> None:
        """Mark a finding; a later mark takes the place of an earlier one, None takes it away.

        Args:
            job_id, drive: of the job that found it, and which time it was done.
            image, finding: the number of the image in the job, and of the finding in its answer; from 1.
            mark: right, wrong, or nothing any more.
            target, status: of the finding, to be counted by.
        """
        key = {"job_id": job_id, "drive": drive, "image": image, "finding": finding}
        same = [getattr(FindingMarkRow, name) == value for name, value in key.items()]
        with self._database.writing() as session:
            if mark is None:
                session.execute(delete(FindingMarkRow).where(*same))
                return
            told = {"target": target, "status": status, "mark": mark, "marked_at": self._clock()}
            if not insert_if_absent(session, FindingMarkRow, **key, **told):
                session.execute(update(FindingMarkRow).where(*same).values(**told))

    def of_job(self, job_id: str, drive: int = 1) -> dict[tuple[int, int], FindingMarkRow]:
        """(image, finding) -> the mark, of those findings of a job that have one."""
        query = select(FindingMarkRow).where(FindingMarkRow.job_id == job_id, FindingMarkRow.drive == drive)
        with self._database.reading() as session:
            return {(row.image, row.finding): row for row in session.scalars(query)}

    def counts(self) -> dict[tuple[str, ...], float]:
        """(target, status of the finding, mark) -> how many findings."""
        columns = (FindingMarkRow.target, FindingMarkRow.status, FindingMarkRow.mark)
        query = select(*columns, func.count()).group_by(*columns)
        with self._database.reading() as session:
            return {(target, status, mark): count for target, status, mark, count in session.execute(query)}
