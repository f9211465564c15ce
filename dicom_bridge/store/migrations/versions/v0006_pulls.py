"""Orders to fetch studies from archives."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the orders."""
    op.create_table(
        "pulls",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("source", sa.String, nullable=False),
        sa.Column("study_uid", sa.String),
        sa.Column("query", sa.JSON),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("due_at", sa.Double, nullable=False),
        sa.Column("asked_at", sa.Double, nullable=False),
        sa.Column("text", sa.String),
    )
    op.create_index("pulls_due", "pulls", ["state", "due_at"])
