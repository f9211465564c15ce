"""The steps that bring the tables up to date: from nothing, from before there were steps, from each earlier one."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, create_engine, inspect, text

from dicom_bridge.jobs.ledger import JobLedger
from dicom_bridge.operations.study_listing import StudyFilter, StudyListing
from dicom_bridge.store.database import Database
from dicom_bridge.store.index import StudyIndex
from dicom_bridge.store.migrations import OlderTablesError, configuration, upgrade
from dicom_bridge.store.states import JobState
from dicom_bridge.store.tables import Table
from rcmed.errors import ConfigurationError

OLDER = Path(__file__).parent / "support" / "older_index.sql"
STEPS = [step.revision for step in reversed(list(ScriptDirectory.from_config(configuration()).walk_revisions()))]


@contextmanager
def connected(where: Path | URL) -> Iterator[Connection]:
    engine = create_engine(f"sqlite:///{where}" if isinstance(where, Path) else where)
    with engine.begin() as connection:
        yield connection
    engine.dispose()


def differences(where: Path | URL) -> list[Any]:
    with connected(where) as connection:
        return list(compare_metadata(MigrationContext.configure(connection), Table.metadata))


def test_the_steps_make_the_tables(any_database: Path | URL) -> None:
    Database(any_database).close()
    assert differences(any_database) == []
    Database(any_database).close()  # nothing is left to do


@pytest.mark.parametrize("step", STEPS[:-1])
def test_an_earlier_version_is_brought_up_to_date(any_database: Path | URL, step: str) -> None:
    with connected(any_database) as connection:
        upgrade(connection, step)
        columns = "study_uid, description, first_received_at, last_received_at, generation, is_open"
        for values in ("'1.2', NULL, 1, 2, 3, true", "'1.3', 'SCHÄDEL nativ', 1, 2, 3, false"):
            connection.execute(text(f"INSERT INTO studies ({columns}) VALUES ({values})"))
        connection.execute(
            text(
                "INSERT INTO jobs (job_id, study_uid, series_uid, generation, route, instances, prompts, destinations,"
                " state, created_at) VALUES ('j', '1.2', '1.2.1', 1, 'r', '[]', '[]', '[\"d\"]', 'queued', 4)"
            )
        )
    database = Database(any_database)
    try:
        assert StudyIndex(database).open_studies() == ["1.2"]
        (job,) = JobLedger(database).jobs()
        assert (job.state, job.destinations, job.created_at) == (JobState.QUEUED, ["d"], 4.0)
        assert JobLedger(database).not_submitted(0) == ["j"]
        searched = (("schädel Nativ", "1.3"), ("1.3", "1.3"), ("1.2", "1.2")) if step < "0009" else ()
        for words, study in searched:
            assert [row.study.study_uid for row in StudyListing(database).page(StudyFilter(words))] == [study]
    finally:
        database.close()
    assert differences(any_database) == []


def test_a_folder_of_before_there_were_versions_gets_what_it_lacks(tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite"
    with sqlite3.connect(path) as older:
        older.executescript(OLDER.read_text())
    older.close()
    database = Database(path)
    try:
        index, ledger = StudyIndex(database), JobLedger(database)
        assert index.instances_of("1.2", "1.2.1") == {"1.2.1.1": Path("a/1.2.1.1.dcm")}
        assert [line.text for line in index.lines("1.2")] == ["a line"]
        assert [(job.job_id, job.state) for job in ledger.jobs()] == [("done", "done"), ("queued", "queued")]
        assert ledger.not_submitted(0) == ["queued"]  # of a finished job nothing is to be done
        assert [row.delivered for row in ledger.deliveries("done")] == [["2.25.1"]]
        assert index.release_all_associations() == ["a"]
        index.follow_to("http://orthanc", 7)
        assert index.followed_to("http://orthanc") == 7
    finally:
        database.close()
    changes = [change for change in differences(path) if not _is_type_of_a_time(change)]
    assert changes == []


def _is_type_of_a_time(change: Any) -> bool:
    """FLOAT and DOUBLE are the same to SQLite."""
    return isinstance(change, list) and change[0][0] == "modify_type"


def test_a_newer_database_is_left_alone(any_database: Path | URL) -> None:
    Database(any_database).close()
    with connected(any_database) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'of tomorrow'"))
    with pytest.raises(ConfigurationError, match="newer version"):
        Database(any_database)


def test_several_processes_may_start_at_once(any_database: Path | URL) -> None:
    with ThreadPoolExecutor(4) as pool:
        for database in pool.map(lambda _: Database(any_database), range(4)):
            database.close()
    assert differences(any_database) == []


def test_looking_changes_nothing(any_database: Path | URL) -> None:
    with pytest.raises(OlderTablesError):
        Database(any_database, only_to_look=True)
    assert not isinstance(any_database, Path) or not any_database.exists()
    with connected(any_database) as connection:
        assert inspect(connection).get_table_names() == []
        upgrade(connection, STEPS[0])
    with pytest.raises(OlderTablesError, match="older version"):
        Database(any_database, only_to_look=True)
    with connected(any_database) as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == STEPS[0]
    Database(any_database).close()
    database = Database(any_database, only_to_look=True)
    assert StudyIndex(database).open_studies() == []
    database.close()
    with connected(any_database) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'of tomorrow'"))
    with pytest.raises(ConfigurationError, match="newer version"):
        Database(any_database, only_to_look=True)
