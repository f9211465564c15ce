"""Several processes on several machines: who they are, what each receives, which jobs the engine has."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the workers, the receiver of an association, and when a job was submitted."""
    op.create_table(
        "workers",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("host", sa.String, nullable=False),
        sa.Column("version", sa.String, nullable=False),
        sa.Column("receives", sa.Boolean, nullable=False),
        sa.Column("started_at", sa.Double, nullable=False),
        sa.Column("beat_at", sa.Double, nullable=False),
        sa.Column("state", sa.String, nullable=False),
    )
    op.add_column("associations", sa.Column("receiver", sa.String))
    op.create_index("associations_open", "associations", ["receiver"], **_where("released_at IS NULL"))
    op.add_column("jobs", sa.Column("submitted_at", sa.Double))
    op.execute("UPDATE jobs SET submitted_at = created_at WHERE state IN ('done', 'refused', 'failed')")
    op.create_index("jobs_not_submitted", "jobs", ["created_at"], **_where("submitted_at IS NULL"))


def _where(condition: str) -> dict[str, Any]:
    return {f"{dialect}_where": sa.text(condition) for dialect in ("sqlite", "postgresql")}
