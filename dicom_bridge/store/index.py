"""What arrived: associations, studies, series, instances, and the lines said about them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from dicom_bridge.errors import NotThereError
from dicom_bridge.store.associations import AssociationIndex, same_or_both_absent
from dicom_bridge.store.database import insert_if_absent
from dicom_bridge.store.recording import Arriving, ReceivedInstance, record
from dicom_bridge.store.tables import (
    AssociationRow,
    CompletionMarkRow,
    FollowedRow,
    GenerationRow,
    InstanceRow,
    JobRow,
    LineRow,
    RemovalRow,
    SeriesRow,
    StudyRow,
)
from dicom_bridge.studies.completion import Arrival, CompletionMark, StudyProgress
from dicom_bridge.studies.priority import Priority
from dicom_bridge.studies.routing import SeriesFacts

_LOG = logging.getLogger(__name__)


class StudyIndex(AssociationIndex):
    """The index of received studies. Every method is safe to call from any thread; writes are durable on return."""

    # instances

    def instance_path(self, study_uid: str, series_uid: str, instance_uid: str) -> str | None:
        """The path of an instance that is already there, relative to the state folder; else None."""
        with self._database.reading() as session:
            row = session.get(InstanceRow, (study_uid, series_uid, instance_uid))
            return None if row is None else row.path

    def record_instance(self, instance: ReceivedInstance, association: str) -> bool:
        """Record an instance and open its study; as `record_instances`."""
        return self.record_instances([(instance, association)])[0]

    def record_instances(self, arriving: Sequence[Arriving]) -> list[bool]:
        """Record instances, each with the id of its association, in one transaction, and open their studies.

        Returns:
            for each False when it was there already: a duplicate is no arrival and reopens nothing.
        """
        with self._database.writing_rows() as connection:
            return record(connection, arriving, self._clock())

    # completion

    def open_studies(self) -> list[str]:
        """Studies with instances that no generation has taken yet, oldest first."""
        with self._database.reading() as session:
            rows = session.scalars(
                select(StudyRow.study_uid).where(StudyRow.is_open).order_by(StudyRow.first_received_at)
            )
            return list(rows)

    def arrivals(self, study_uid: str) -> list[Arrival]:
        """Every instance of a study as the completion rule wants it."""
        with self._database.reading() as session:
            rows = session.execute(
                select(
                    InstanceRow.received_at,
                    InstanceRow.association,
                    AssociationRow.released_at,
                    AssociationRow.is_aborted,
                )
                .join(AssociationRow, AssociationRow.id == InstanceRow.association)
                .where(InstanceRow.study_uid == study_uid)
            )
            return [Arrival(*row) for row in rows]

    def earlier_generations(self, study_uid: str) -> int:
        """The last generation of those instances of a study that retention took away; 0 where it took none."""
        query = select(func.max(RemovalRow.generation)).where(RemovalRow.study_uid == study_uid)
        with self._database.reading() as session:
            return session.scalar(query) or 0

    def marks(self, study_uid: str) -> list[CompletionMark]:
        """What was said about a study's completeness, oldest first."""
        query = select(CompletionMarkRow).where(CompletionMarkRow.study_uid == study_uid).order_by(CompletionMarkRow.id)
        with self._database.reading() as session:
            return [CompletionMark(row.at, row.expected, row.is_trigger) for row in session.scalars(query)]

    def mark_complete(self, study_uid: str, expected: int | None = None) -> bool:
        """Somebody says that a study is complete, or that it is with so many instances.

        Returns:
            False when no generation of it is open: nothing is recorded.
        Raises:
            NotThereError: no such study.
        """
        with self._database.writing() as session:
            study = _locked_study(session, study_uid)
            if study is None:
                raise NotThereError(f"no study {study_uid}")
            if study.is_open:
                session.add(
                    CompletionMarkRow(study_uid=study_uid, at=self._clock(), expected=expected, is_trigger=True)
                )
            return study.is_open

    def close_generation(self, study_uid: str, progress: StudyProgress, jobs: Iterable[JobRow]) -> list[str] | None:
        """Take a complete generation: close the study and write its jobs, in one transaction.

        Returns:
            Ids of the jobs that are new; None when an instance arrived since the judgement, or another process took
            it: then nothing is changed.
        """
        with self._database.writing() as session:
            study = _locked_study(session, study_uid)
            count = session.scalar(
                select(func.count()).select_from(InstanceRow).where(InstanceRow.study_uid == study_uid)
            )
            if study is None or not study.is_open or count != progress.instances:
                return None
            study.generation = progress.generation
            study.is_open = False
            session.merge(
                GenerationRow(
                    study_uid=study_uid,
                    generation=progress.generation,
                    completed_at=self._clock() if progress.due_at is None else progress.due_at,
                    instances=progress.instances,
                    rule=progress.rule,
                )
            )
            new = [job for job in jobs if session.get(JobRow, job.job_id) is None]
            session.add_all(new)
            return [job.job_id for job in new]

    # looking

    def series_of(self, study_uid: str) -> list[tuple[str, SeriesFacts]]:
        """(Series Instance UID, facts) of a study, in the order of the UIDs."""
        with self._database.reading() as session:
            study = session.get(StudyRow, study_uid)
            rows = session.scalars(
                select(SeriesRow).where(SeriesRow.study_uid == study_uid).order_by(SeriesRow.series_uid)
            )
            return [
                (
                    row.series_uid,
                    SeriesFacts(
                        modality=row.modality,
                        body_part=row.body_part,
                        study_description=study.description if study else None,
                        series_description=row.description,
                        protocol_name=row.protocol_name,
                        calling_ae=row.calling_ae,
                        called_ae=row.called_ae,
                        priority=None if row.priority is None else Priority(row.priority),
                    ),
                )
                for row in rows
            ]

    def instances_of(self, study_uid: str, series_uid: str) -> dict[str, Path]:
        """SOP Instance UID -> path relative to the state folder, sorted by UID."""
        with self._database.reading() as session:
            rows = session.execute(
                select(InstanceRow.instance_uid, InstanceRow.path)
                .where(InstanceRow.study_uid == study_uid, InstanceRow.series_uid == series_uid)
                .order_by(InstanceRow.instance_uid)
            )
            return {uid: Path(path) for uid, path in rows}

    def studies(self, limit: int = 200) -> list[StudyRow]:
        """The latest studies, latest first."""
        with self._database.reading() as session:
            return list(session.scalars(select(StudyRow).order_by(StudyRow.last_received_at.desc()).limit(limit)))

    def study(self, study_uid: str) -> StudyRow | None:
        """One study."""
        with self._database.reading() as session:
            return session.get(StudyRow, study_uid)

    def instance_count(self, study_uid: str) -> int:
        """How many instances of a study are there."""
        with self._database.reading() as session:
            condition = InstanceRow.study_uid == study_uid
            return session.scalar(select(func.count()).select_from(InstanceRow).where(condition)) or 0

    # servers that are followed

    def followed_to(self, url: str) -> int | None:
        """The last sequence number of a server's changes that was dealt with; None: none was."""
        with self._database.reading() as session:
            row = session.get(FollowedRow, url)
            return None if row is None else row.sequence

    def follow_to(self, url: str, sequence: int) -> None:
        """Everything up to a sequence number is dealt with."""
        with self._database.writing() as session:
            if not insert_if_absent(session, FollowedRow, url=url, sequence=sequence):
                session.execute(update(FollowedRow).where(FollowedRow.url == url).values(sequence=sequence))

    # lines

    def add_line(
        self,
        text: str,
        *,
        level: str = "error",
        study_uid: str | None = None,
        series_uid: str | None = None,
        job_id: str | None = None,
    ) -> None:
        """Say one line in the log and keep it for the status page; the same line of the same job is kept once."""
        text = " ".join(text.split())
        uids = {"study_uid": study_uid, "series_uid": series_uid, "job_id": job_id}
        known = {name: uid for name, uid in uids.items() if uid is not None}  # fields of their own in a JSON log
        _LOG.log(
            logging.getLevelNamesMapping()[level.upper()], "%s", _with_uids(text, study_uid, series_uid), extra=known
        )
        with self._database.writing() as session:
            same = select(LineRow.id).where(
                LineRow.text == text,
                same_or_both_absent(LineRow.study_uid, study_uid),
                same_or_both_absent(LineRow.series_uid, series_uid),
                same_or_both_absent(LineRow.job_id, job_id),
            )
            if job_id is not None:
                session.execute(select(JobRow.job_id).where(JobRow.job_id == job_id).with_for_update())
            if job_id is None or session.scalar(same) is None:
                session.add(
                    LineRow(
                        time=self._clock(),
                        level=level,
                        study_uid=study_uid,
                        series_uid=series_uid,
                        job_id=job_id,
                        text=text,
                    )
                )

    def lines(
        self, study_uid: str | None = None, limit: int = 200, levels: Sequence[str] | None = None
    ) -> list[LineRow]:
        """The latest lines, of one study or of all, of some levels or of all, latest first."""
        query = select(LineRow).order_by(LineRow.id.desc()).limit(limit)
        if levels is not None:
            query = query.where(LineRow.level.in_(levels))
        if study_uid is not None:
            query = query.where(LineRow.study_uid == study_uid)
        with self._database.reading() as session:
            return list(session.scalars(query))


def _locked_study(session: Session, study_uid: str) -> StudyRow | None:
    """A study as it is now; until the transaction's end no other one takes or closes it."""
    query = select(StudyRow).where(StudyRow.study_uid == study_uid).with_for_update()
    return session.scalar(query.execution_options(populate_existing=True))


def _with_uids(text: str, study_uid: str | None, series_uid: str | None) -> str:
    where = [f"{name} {uid}" for name, uid in (("study", study_uid), ("series", series_uid)) if uid]
    return f"{', '.join(where)}: {text}" if where else text
