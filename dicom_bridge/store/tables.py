"""Tables of the index. UIDs, descriptions and times; no patient's number or birth date, a name only where asked for.

A change here needs a step in `dicom_bridge.store.migrations`.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Double, ForeignKey, ForeignKeyConstraint, Index, false, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Table(DeclarativeBase):
    """Base of all tables. Times are seconds since the epoch."""

    type_annotation_map = {float: Double}


def _partial_index(name: str, column: str, condition: str) -> Index:
    return Index(name, column, sqlite_where=text(condition), postgresql_where=text(condition))


class AssociationRow(Table):
    """A DIMSE association that brought at least one instance, new or known, and the process that it was with.

    `released_at`: when it ended; `is_aborted`: not by a release.
    """

    __tablename__ = "associations"
    id: Mapped[str] = mapped_column(primary_key=True)
    calling_ae: Mapped[str]
    called_ae: Mapped[str]
    peer: Mapped[str]
    opened_at: Mapped[float]
    released_at: Mapped[float | None]
    receiver: Mapped[str | None]
    is_aborted: Mapped[bool] = mapped_column(default=False, server_default=false())
    __table_args__ = (_partial_index("associations_open", "receiver", "released_at IS NULL"),)


class ResendRow(Table):
    """How many instances of a study an association brought that were there; `differing`: with other content."""

    __tablename__ = "resends"
    association: Mapped[str] = mapped_column(primary_key=True)
    study_uid: Mapped[str] = mapped_column(primary_key=True, index=True)
    instances: Mapped[int]
    differing: Mapped[int]


class StudyRow(Table):
    """A study; `is_open` until the generation that its instances belong to was handed to the jobs.

    `study_date`: as YYYY-MM-DD; `patient_name`: None unless `web.patient_names`; `searched`: what a search looks at.
    """

    __tablename__ = "studies"
    study_uid: Mapped[str] = mapped_column(primary_key=True)
    description: Mapped[str | None]
    first_received_at: Mapped[float]
    last_received_at: Mapped[float]
    generation: Mapped[int] = mapped_column(default=0)
    is_open: Mapped[bool] = mapped_column(default=True, index=True)
    accession_number: Mapped[str | None]
    study_date: Mapped[str | None]
    patient_name: Mapped[str | None]
    searched: Mapped[str] = mapped_column(default="", server_default="")
    __table_args__ = (Index("studies_by_time", "last_received_at", "study_uid"),)


class SeriesRow(Table):
    """A series, with what routing needs to know."""

    __tablename__ = "series"
    study_uid: Mapped[str] = mapped_column(ForeignKey("studies.study_uid"), primary_key=True)
    series_uid: Mapped[str] = mapped_column(primary_key=True)
    modality: Mapped[str | None]
    body_part: Mapped[str | None]
    description: Mapped[str | None]
    protocol_name: Mapped[str | None]
    calling_ae: Mapped[str | None]
    called_ae: Mapped[str | None]
    priority: Mapped[str | None]


class InstanceRow(Table):
    """A received instance; `path` is relative to the state folder."""

    __tablename__ = "instances"
    study_uid: Mapped[str] = mapped_column(primary_key=True)
    series_uid: Mapped[str] = mapped_column(primary_key=True)
    instance_uid: Mapped[str] = mapped_column(primary_key=True)
    sop_class_uid: Mapped[str]
    transfer_syntax_uid: Mapped[str]
    path: Mapped[str]
    received_at: Mapped[float]
    association: Mapped[str] = mapped_column(ForeignKey("associations.id"), index=True)
    __table_args__ = (
        ForeignKeyConstraint(["study_uid", "series_uid"], ["series.study_uid", "series.series_uid"]),
        Index("instances_by_uid", "instance_uid"),
    )


class JobRow(Table):
    """One series through one route; `submitted_at`: the job engine had it; `drive`: how often it was driven."""

    __tablename__ = "jobs"
    job_id: Mapped[str] = mapped_column(primary_key=True)
    study_uid: Mapped[str] = mapped_column(index=True)
    series_uid: Mapped[str]
    generation: Mapped[int]
    route: Mapped[str]
    instances: Mapped[list[str]] = mapped_column(JSON)
    prompts: Mapped[list[str]] = mapped_column(JSON)
    destinations: Mapped[list[str]] = mapped_column(JSON)
    state: Mapped[str] = mapped_column(index=True)
    error: Mapped[str | None]
    created_at: Mapped[float]
    finished_at: Mapped[float | None]
    submitted_at: Mapped[float | None]
    priority: Mapped[str] = mapped_column(default="routine", server_default="routine")
    drive: Mapped[int] = mapped_column(default=1, server_default="1")
    attempts: Mapped[int] = mapped_column(default=0, server_default="0")
    __table_args__ = (
        _partial_index("jobs_not_submitted", "created_at", "submitted_at IS NULL"),
        Index("jobs_of_study_by_state", "study_uid", "state"),
    )


class DeliveryRow(Table):
    """The results of one job to one destination; `drive`: how often it was driven."""

    __tablename__ = "deliveries"
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.job_id"), primary_key=True)
    destination: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str]
    attempts: Mapped[int] = mapped_column(default=0)
    delivered: Mapped[list[str]] = mapped_column(JSON)
    refused: Mapped[list[str]] = mapped_column(JSON)
    text: Mapped[str | None]
    updated_at: Mapped[float]
    drive: Mapped[int] = mapped_column(default=1, server_default="1")
    __table_args__ = (_partial_index("deliveries_dead", "updated_at", "state IN ('failed', 'refused')"),)


class FindingMarkRow(Table):
    """Whether somebody said that a finding is right or wrong; `image` and `finding` count from 1 within the job.

    A job that is done again answers anew: `drive` says which answer was meant.

    It stays when its study goes: it names no patient and no study, and what was counted stays counted.
    """

    __tablename__ = "finding_marks"
    job_id: Mapped[str] = mapped_column(primary_key=True)
    drive: Mapped[int] = mapped_column(primary_key=True)
    image: Mapped[int] = mapped_column(primary_key=True)
    finding: Mapped[int] = mapped_column(primary_key=True)
    target: Mapped[str]
    status: Mapped[str]
    mark: Mapped[str]
    marked_at: Mapped[float]


class GenerationRow(Table):
    """A generation of a study that was complete, and by which rule."""

    __tablename__ = "generations"
    study_uid: Mapped[str] = mapped_column(ForeignKey("studies.study_uid"), primary_key=True)
    generation: Mapped[int] = mapped_column(primary_key=True)
    completed_at: Mapped[float]
    instances: Mapped[int]
    rule: Mapped[str]


class CompletionMarkRow(Table):
    """Something that was said about a study's completeness; `is_trigger`: it was said to be complete."""

    __tablename__ = "completion_marks"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    study_uid: Mapped[str] = mapped_column(ForeignKey("studies.study_uid"), index=True)
    at: Mapped[float]
    expected: Mapped[int | None]
    is_trigger: Mapped[bool]


class CommitmentRow(Table):
    """A request of storage commitment; `reported_at` when its report was taken, or given up."""

    __tablename__ = "commitments"
    transaction_uid: Mapped[str] = mapped_column(primary_key=True)
    calling_ae: Mapped[str]
    address: Mapped[str]
    objects: Mapped[list[list[str]]] = mapped_column(JSON)
    requested_at: Mapped[float]
    attempts: Mapped[int]
    due_at: Mapped[float]
    reported_at: Mapped[float | None] = mapped_column(index=True)


class RemovalRow(Table):
    """What retention takes away of one study: a journal, so that a crash in the middle leaves nothing half done.

    A finished one of instances stays as long as the study, because it tells which generations were before it.
    """

    __tablename__ = "removals"
    id: Mapped[str] = mapped_column(primary_key=True)
    study_uid: Mapped[str] = mapped_column(index=True)
    kind: Mapped[str]
    reason: Mapped[str]
    generation: Mapped[int]
    files: Mapped[list[str]] = mapped_column(JSON)
    jobs: Mapped[list[str]] = mapped_column(JSON)
    series: Mapped[dict[str, int]] = mapped_column(JSON)
    began_at: Mapped[float]
    decided_at: Mapped[float | None]
    finished_at: Mapped[float | None] = mapped_column(index=True)


class PullRow(Table):
    """An order to fetch a study from an archive, or (`study_uid` is None) all that meets a query.

    `due_at`: when it is to be worked on; while it is, until when nobody else may.
    """

    __tablename__ = "pulls"
    id: Mapped[str] = mapped_column(primary_key=True)
    source: Mapped[str]
    study_uid: Mapped[str | None]
    query: Mapped[dict[str, str] | None] = mapped_column(JSON)
    state: Mapped[str]
    attempts: Mapped[int]
    due_at: Mapped[float]
    asked_at: Mapped[float]
    text: Mapped[str | None]
    __table_args__ = (Index("pulls_due", "state", "due_at"),)


class FollowedRow(Table):
    """How far the changes of a server were followed."""

    __tablename__ = "followed"
    url: Mapped[str] = mapped_column(primary_key=True)
    sequence: Mapped[int]


class AwaitedReportRow(Table):
    """A report of storage commitment that a process waits for, and that a peer may bring to another one."""

    __tablename__ = "awaited_reports"
    transaction_uid: Mapped[str] = mapped_column(primary_key=True)
    expected_at: Mapped[float]
    kept: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    failed: Mapped[list[list[Any]] | None] = mapped_column(JSON(none_as_null=True))


class WorkerRow(Table):
    """A process that shares the database; `beat_at` by the clock of the database."""

    __tablename__ = "workers"
    name: Mapped[str] = mapped_column(primary_key=True)
    host: Mapped[str]
    version: Mapped[str]
    receives: Mapped[bool]
    started_at: Mapped[float]
    beat_at: Mapped[float]
    state: Mapped[str]


class LineRow(Table):
    """A line of the log that belongs to a study, shown on the status page."""

    __tablename__ = "lines"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    time: Mapped[float]
    level: Mapped[str]
    study_uid: Mapped[str | None]
    series_uid: Mapped[str | None]
    job_id: Mapped[str | None]
    text: Mapped[str]
    __table_args__ = (Index("lines_by_study", "study_uid", "id"),)
