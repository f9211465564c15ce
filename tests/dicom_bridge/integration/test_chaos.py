"""Senders, kills, restarts of PostgreSQL, a destination that is away and a full disk, all at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from chaos import Chaos, Plan

pytestmark = pytest.mark.integration


# Two minutes on two cores that have nothing else to do.
@pytest.mark.timeout(900)
def test_nothing_is_missing_and_nothing_is_there_twice(
    tmp_path: Path, postgresql_programs: Path, free_port: Callable[[], int]
) -> None:
    plan = Plan(studies=200, seconds=45, kills=5)
    report = Chaos(tmp_path, postgresql_programs, (free_port(), free_port()), plan).run()
    assert report.faults == [], "\n".join(report.events)
    counts = report.counts
    assert counts["jobs"] >= plan.studies
    assert counts["objects at the destination"] == 2 * counts["jobs"]
    # It was no walk in the park.
    assert counts["answers 0xA700"] > 0
    assert counts["take-overs"] > 0
