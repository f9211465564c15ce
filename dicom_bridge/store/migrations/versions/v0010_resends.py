"""Instances that came again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Add the counts; what came again before was not counted."""
    op.create_table(
        "resends",
        sa.Column("association", sa.String, primary_key=True),
        sa.Column("study_uid", sa.String, primary_key=True),
        sa.Column("instances", sa.Integer, nullable=False),
        sa.Column("differing", sa.Integer, nullable=False),
    )
    op.create_index("ix_resends_study_uid", "resends", ["study_uid"])
