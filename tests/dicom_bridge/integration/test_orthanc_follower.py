"""Following a real Orthanc: every stable study is fetched once, over restarts, and our results are not fetched back."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest

from dicom_bridge.delivery.destination import DestinationUnavailableError
from dicom_bridge.gateway.composition import Gateway
from dicom_bridge.ingest.orthanc import OrthancFollower
from dicom_bridge.settings import FollowedOrthancSettings
from dicom_bridge.store.states import JobState
from stored import Stored

pytestmark = pytest.mark.integration
PATIENCE = 120.0


def follower(stored: Stored, url: str, begin: str = "now") -> OrthancFollower:
    settings = FollowedOrthancSettings.model_validate({"url": url, "begin": begin})
    return OrthancFollower(settings, stored.intake, stored.observer, "RCMED")


def upload(orthanc: Any, files: list[Path]) -> str:
    for file in files:
        orthanc.api.upload_file(str(file))
    return str(pydicom.dcmread(files[0]).StudyInstanceUID)


def follow_until(following: OrthancFollower, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        if not following.follow():
            time.sleep(0.1)


def test_it_goes_on_where_it_was(orthanc: Any, tmp_path: Path, make_ct_series: Any) -> None:
    old = upload(orthanc, make_ct_series(2))
    stored = Stored(tmp_path / "state")
    following = follower(stored, orthanc.url, "oldest")
    follow_until(following, lambda: stored.index.instance_count(old) == 2)
    assert all(arrival.released_at is not None for arrival in stored.index.arrivals(old))
    assert stored.index.series_of(old)[0][1].calling_ae == "ORTHANC"
    reached = stored.index.followed_to(orthanc.url)
    stored.close()

    new = upload(orthanc, make_ct_series(3))
    stored = Stored(tmp_path / "state")
    assert stored.index.followed_to(orthanc.url) == reached
    following = follower(stored, orthanc.url)
    follow_until(following, lambda: stored.index.instance_count(new) == 3)
    assert stored.counted("rcmed_instances_total", source="orthanc", outcome="stored") == 3
    assert stored.counted("rcmed_instances_total", source="orthanc", outcome="duplicate") == 0
    stored.close()


def test_without_room_nothing_is_passed_over(
    orthanc: Any, tmp_path: Path, make_ct_series: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = upload(orthanc, make_ct_series(2))
    stored = Stored(tmp_path / "state")
    following = follower(stored, orthanc.url, "oldest")
    with monkeypatch.context() as patch:
        patch.setattr(stored.files, "free_megabytes", lambda: -1.0)
        with pytest.raises(Exception, match="minimum_free_megabytes"):
            follow_until(following, lambda: False)
    follow_until(following, lambda: stored.index.instance_count(study) == 2)
    stored.close()


def test_an_orthanc_that_is_away_is_told(tmp_path: Path) -> None:
    stored = Stored(tmp_path / "state")
    with pytest.raises(DestinationUnavailableError, match="does not answer"):
        follower(stored, "http://127.0.0.1:1").follow()
    stored.close()


def test_results_go_back_into_the_orthanc_that_is_followed(
    start_gateway: Callable[..., Gateway], orthanc: Any, make_ct_series: Any
) -> None:
    gateway = start_gateway(
        {"type": "orthanc", "url": orthanc.url}, orthanc={"url": orthanc.url, "begin": "oldest", "poll_seconds": 0.1}
    )
    files = make_ct_series(3)
    study = upload(orthanc, files)
    (job,) = gateway.wait_for_study(study, PATIENCE) or [None]
    assert job is not None and job.state == JobState.DONE
    assert len(orthanc.api.instances.get_all_ids()) == 5

    def last_stable() -> int:
        """The number of the last change that tells of the study with our results in it."""
        changes = orthanc.api.get_json("changes")["Changes"]
        stable = [c["Seq"] for c in changes if c["ChangeType"] == "StableStudy"]
        return int(stable[1]) if len(stable) > 1 else 0

    wait_until(lambda: last_stable() > 0, "Orthanc has told of the study again")
    wait_until(lambda: (gateway.index.followed_to(orthanc.url) or 0) >= last_stable(), "that was dealt with")
    assert gateway.wait_until_idle(PATIENCE)
    assert len(gateway.ledger.jobs(study)) == 1
    assert gateway.index.instance_count(study) == 3


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
