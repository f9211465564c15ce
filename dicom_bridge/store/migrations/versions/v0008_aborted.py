"""Whether an association ended without a release."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add it; of those that ended before it is not known, and they count as released."""
    op.add_column("associations", sa.Column("is_aborted", sa.Boolean, nullable=False, server_default=sa.false()))
