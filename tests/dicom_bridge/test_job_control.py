"""What operators are shown of failures, on both databases."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import URL

from dicom_bridge.jobs.control import JobControl
from dicom_bridge.store.database import Database


def test_failures_are_counted_where_there_are_none(any_database: Path | URL) -> None:
    database = Database(any_database)
    try:
        assert JobControl(database).dead_letter_counts() == {}
    finally:
        database.close()
