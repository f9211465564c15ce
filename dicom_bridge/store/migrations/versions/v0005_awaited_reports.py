"""Reports of storage commitment that a peer may bring to another process than the one that waits."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add what is waited for."""
    op.create_table(
        "awaited_reports",
        sa.Column("transaction_uid", sa.String, primary_key=True),
        sa.Column("expected_at", sa.Double, nullable=False),
        sa.Column("kept", sa.JSON),
        sa.Column("failed", sa.JSON),
    )
