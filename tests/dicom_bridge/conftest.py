"""Fixtures of all tests of the bridge."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from pydicom.uid import generate_uid
from sqlalchemy import URL

from certificates import Certificates, make_certificates
from postgresql_server import PACKAGE, PostgresqlServer, server_programs
from result_sources import Sources
from synthetic_study import ThresholdAssistant, ct_slice

SeriesMaker = Callable[..., list[Path]]


@pytest.fixture
def make_ct_series(tmp_path: Path) -> SeriesMaker:
    """Writes a CT series; returns its files in the order of the slices."""

    def make(
        slices: Sequence[int] | int = 4, study_uid: str | None = None, series_uid: str | None = None
    ) -> list[Path]:
        study = study_uid or generate_uid()
        series = series_uid or generate_uid()
        frame_of_reference = generate_uid(entropy_srcs=[study])
        folder = tmp_path / "source" / study / series
        folder.mkdir(parents=True, exist_ok=True)
        files = []
        for number in range(slices) if isinstance(slices, int) else slices:
            dataset = ct_slice(number, study, series, frame_of_reference)
            path = folder / f"{number:03d}.dcm"
            dataset.save_as(path, enforce_file_format=True)
            files.append(path)
        return files

    return make


@pytest.fixture
def threshold_assistant() -> ThresholdAssistant:
    return ThresholdAssistant()


@pytest.fixture(scope="session")
def sources() -> Sources:
    return Sources()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def postgresql_programs() -> Path:
    """Without PostgreSQL the test is skipped, and fails where everything must be tested."""
    folder = server_programs()
    if folder is None:
        reason = f"PostgreSQL is not installed: install {PACKAGE} (make debian-packages)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture(scope="session")
def postgresql_of_all(postgresql_programs: Path) -> Iterator[PostgresqlServer]:
    """One server for all tests that don't stop it; what it loses in a crash nobody needs."""
    with PostgresqlServer(postgresql_programs, fsync="off") as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.integration)])
def any_database(request: pytest.FixtureRequest, tmp_path: Path) -> Path | URL:
    """Where a new, empty database is, of each kind."""
    if request.param == "sqlite":
        return tmp_path / "index.sqlite"
    server: PostgresqlServer = request.getfixturevalue("postgresql_of_all")
    return server.create_database(uuid.uuid4().hex)
