"""The tables as they were before there were versions; what is there is left alone."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create what is missing."""
    _table(
        "associations",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("calling_ae", sa.String, nullable=False),
        sa.Column("called_ae", sa.String, nullable=False),
        sa.Column("peer", sa.String, nullable=False),
        sa.Column("opened_at", sa.Double, nullable=False),
        sa.Column("released_at", sa.Double),
    )
    _table(
        "studies",
        sa.Column("study_uid", sa.String, primary_key=True),
        sa.Column("description", sa.String),
        sa.Column("first_received_at", sa.Double, nullable=False),
        sa.Column("last_received_at", sa.Double, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("is_open", sa.Boolean, nullable=False),
    )
    _table(
        "series",
        sa.Column("study_uid", sa.String, sa.ForeignKey("studies.study_uid"), primary_key=True),
        sa.Column("series_uid", sa.String, primary_key=True),
        sa.Column("modality", sa.String),
        sa.Column("body_part", sa.String),
        sa.Column("description", sa.String),
        sa.Column("protocol_name", sa.String),
        sa.Column("calling_ae", sa.String),
        sa.Column("called_ae", sa.String),
    )
    _table(
        "instances",
        sa.Column("study_uid", sa.String, primary_key=True),
        sa.Column("series_uid", sa.String, primary_key=True),
        sa.Column("instance_uid", sa.String, primary_key=True),
        sa.Column("sop_class_uid", sa.String, nullable=False),
        sa.Column("transfer_syntax_uid", sa.String, nullable=False),
        sa.Column("path", sa.String, nullable=False),
        sa.Column("received_at", sa.Double, nullable=False),
        sa.Column("association", sa.String, sa.ForeignKey("associations.id"), nullable=False),
        sa.ForeignKeyConstraint(["study_uid", "series_uid"], ["series.study_uid", "series.series_uid"]),
    )
    _table(
        "jobs",
        sa.Column("job_id", sa.String, primary_key=True),
        sa.Column("study_uid", sa.String, nullable=False),
        sa.Column("series_uid", sa.String, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("route", sa.String, nullable=False),
        sa.Column("instances", sa.JSON, nullable=False),
        sa.Column("prompts", sa.JSON, nullable=False),
        sa.Column("destinations", sa.JSON, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("error", sa.String),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("finished_at", sa.Double),
    )
    _table(
        "deliveries",
        sa.Column("job_id", sa.String, sa.ForeignKey("jobs.job_id"), primary_key=True),
        sa.Column("destination", sa.String, primary_key=True),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("delivered", sa.JSON, nullable=False),
        sa.Column("refused", sa.JSON, nullable=False),
        sa.Column("text", sa.String),
        sa.Column("updated_at", sa.Double, nullable=False),
    )
    _table(
        "commitments",
        sa.Column("transaction_uid", sa.String, primary_key=True),
        sa.Column("calling_ae", sa.String, nullable=False),
        sa.Column("address", sa.String, nullable=False),
        sa.Column("objects", sa.JSON, nullable=False),
        sa.Column("requested_at", sa.Double, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("due_at", sa.Double, nullable=False),
        sa.Column("reported_at", sa.Double),
    )
    _table(
        "followed",
        sa.Column("url", sa.String, primary_key=True),
        sa.Column("sequence", sa.Integer, nullable=False),
    )
    _table(
        "lines",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("time", sa.Double, nullable=False),
        sa.Column("level", sa.String, nullable=False),
        sa.Column("study_uid", sa.String),
        sa.Column("series_uid", sa.String),
        sa.Column("job_id", sa.String),
        sa.Column("text", sa.String, nullable=False),
    )
    for name, table, columns in (
        ("ix_studies_is_open", "studies", ["is_open"]),
        ("ix_instances_association", "instances", ["association"]),
        ("instances_by_uid", "instances", ["instance_uid"]),
        ("ix_jobs_study_uid", "jobs", ["study_uid"]),
        ("ix_jobs_state", "jobs", ["state"]),
        ("ix_commitments_reported_at", "commitments", ["reported_at"]),
        ("lines_by_study", "lines", ["study_uid", "id"]),
    ):
        op.create_index(name, table, columns, if_not_exists=True)


def _table(name: str, *parts: sa.Column[object] | sa.ForeignKeyConstraint) -> None:
    op.create_table(name, *parts, if_not_exists=True)
