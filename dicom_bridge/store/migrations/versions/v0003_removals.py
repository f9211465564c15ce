"""What retention takes away, written down before it is done."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the journal of removals."""
    op.create_table(
        "removals",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("study_uid", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("files", sa.JSON, nullable=False),
        sa.Column("jobs", sa.JSON, nullable=False),
        sa.Column("series", sa.JSON, nullable=False),
        sa.Column("began_at", sa.Double, nullable=False),
        sa.Column("decided_at", sa.Double),
        sa.Column("finished_at", sa.Double),
    )
    op.create_index("ix_removals_study_uid", "removals", ["study_uid"])
    op.create_index("ix_removals_finished_at", "removals", ["finished_at"])
