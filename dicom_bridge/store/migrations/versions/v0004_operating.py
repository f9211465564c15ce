"""What operators do: priorities, drives of jobs and deliveries, how generations ended, what ended or delays them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_DEAD = sa.text("state IN ('failed', 'refused')")


def upgrade() -> None:
    """Add priority and drive of jobs and deliveries, generations, and the marks that completion is judged by."""
    op.add_column("series", sa.Column("priority", sa.String))
    op.add_column("jobs", sa.Column("priority", sa.String, nullable=False, server_default="routine"))
    op.add_column("jobs", sa.Column("drive", sa.Integer, nullable=False, server_default="1"))
    op.add_column("deliveries", sa.Column("drive", sa.Integer, nullable=False, server_default="1"))
    op.create_index("deliveries_dead", "deliveries", ["updated_at"], sqlite_where=_DEAD, postgresql_where=_DEAD)
    op.create_table(
        "generations",
        sa.Column("study_uid", sa.String, sa.ForeignKey("studies.study_uid"), primary_key=True),
        sa.Column("generation", sa.Integer, primary_key=True),
        sa.Column("completed_at", sa.Double, nullable=False),
        sa.Column("instances", sa.Integer, nullable=False),
        sa.Column("rule", sa.String, nullable=False),
    )
    op.create_table(
        "completion_marks",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("study_uid", sa.String, sa.ForeignKey("studies.study_uid"), nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("expected", sa.Integer),
        sa.Column("is_trigger", sa.Boolean, nullable=False),
    )
    op.create_index("ix_completion_marks_study_uid", "completion_marks", ["study_uid"])
