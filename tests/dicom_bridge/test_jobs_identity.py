"""A job's identity: everything that its results depend on, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_bridge.jobs.identity import job_identity

BASE: dict[str, Any] = {
    "study_uid": "1.2",
    "series_uid": "1.2.3",
    "instance_uids": ["1.2.3.1", "1.2.3.2"],
    "route": "everything",
    "weights_sha256": "ab" * 32,
    "prompts": ["liver"],
}


@given(st.permutations(["1.1", "1.2", "1.3", "1.4"]))
def test_the_order_of_arrival_does_not_count(uids: list[str]) -> None:
    assert job_identity(**BASE | {"instance_uids": uids}) == job_identity(**BASE | {"instance_uids": sorted(uids)})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("study_uid", "1.3"),
        ("series_uid", "1.2.4"),
        ("instance_uids", ["1.2.3.1"]),
        ("route", "other"),
        ("weights_sha256", "cd" * 32),
        ("prompts", ["liver", ""]),
        ("prompts", ["spleen"]),
    ],
)
def test_everything_that_matters_counts(key: str, value: object) -> None:
    assert job_identity(**BASE | {key: value}) != job_identity(**BASE)


def test_it_is_the_same_in_every_process() -> None:
    assert job_identity(**BASE) == "3e23ecf05081fab68e43461df93301face0fd12e72eb88ddfb6e45e4bfae7504"
