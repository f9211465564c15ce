"""How often a job was begun, so that one which kills its process is not begun for ever."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the attempts of jobs."""
    op.add_column("jobs", sa.Column("attempts", sa.Integer, nullable=False, server_default="0"))
