"""What studies are looked for by, and what was said of findings."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

_STUDIES = sa.table(
    "studies", sa.column("study_uid", sa.String), sa.column("description", sa.String), sa.column("searched", sa.String)
)


def upgrade() -> None:
    """Add both; of studies that came before, description and UID are searched."""
    for name in ("accession_number", "study_date", "patient_name"):
        op.add_column("studies", sa.Column(name, sa.String))
    op.add_column("studies", sa.Column("searched", sa.String, nullable=False, server_default=""))
    # Not by the database: SQLite's lower() knows no letter beyond ASCII.
    rows = op.get_bind().execute(sa.select(_STUDIES.c.study_uid, _STUDIES.c.description)).all()
    if rows:
        op.get_bind().execute(
            sa.update(_STUDIES)
            .where(_STUDIES.c.study_uid == sa.bindparam("uid"))
            .values(searched=sa.bindparam("text")),
            [
                {"uid": uid, "text": " ".join(f"{description or ''} {uid}".casefold().split())}
                for uid, description in rows
            ],
        )
    op.create_index("studies_by_time", "studies", ["last_received_at", "study_uid"])
    op.create_index("jobs_of_study_by_state", "jobs", ["study_uid", "state"])
    op.create_table(
        "finding_marks",
        sa.Column("job_id", sa.String, primary_key=True),
        sa.Column("drive", sa.Integer, primary_key=True),
        sa.Column("image", sa.Integer, primary_key=True),
        sa.Column("finding", sa.Integer, primary_key=True),
        sa.Column("target", sa.String, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("mark", sa.String, nullable=False),
        sa.Column("marked_at", sa.Double, nullable=False),
    )
