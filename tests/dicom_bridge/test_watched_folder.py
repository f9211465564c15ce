"""A watched folder: what is settled is taken once, what is no DICOM is put aside with a line."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest

from dicom_bridge.ingest.watched_folder import PATIENCE_SECONDS, WatchedFolder
from dicom_bridge.settings import WatchedFolderSettings
from stored import Stored


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[Stored]:
    stored = Stored(tmp_path / "state")
    yield stored
    stored.close()


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    folder = tmp_path / "spool"
    folder.mkdir()
    return folder


def watched(stored: Stored, spool: Path, **settings: Any) -> WatchedFolder:
    told = WatchedFolderSettings(path=spool, **{"settled_seconds": 0, **settings})
    return WatchedFolder(told, stored.intake, stored.observer, "RCMED")


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_settled_files_are_taken_and_moved(stored: Stored, spool: Path, make_ct_series: Any) -> None:
    files = make_ct_series(2)
    (spool / "a" / "b").mkdir(parents=True)
    shutil.copy(files[0], spool / "first")
    shutil.copy(files[1], spool / "a" / "b" / "second.dcm")
    (spool / "notes.txt").write_text("hello")
    (spool / ".hidden").write_text("hello")
    folder = watched(stored, spool)
    assert folder.look() == 0  # seen for the first time
    assert folder.look() == 3
    study = pydicom.dcmread(files[0]).StudyInstanceUID
    assert stored.index.instance_count(study) == 2
    assert all(arrival.released_at is not None for arrival in stored.index.arrivals(study))
    assert stored.index.series_of(study)[0][1].calling_ae == "FOLDER"
    assert names(spool) == [".hidden", "refused/notes.txt", "taken/a/b/second.dcm", "taken/first"]
    assert [line.text for line in stored.index.lines() if "notes.txt" in line.text]
    assert (folder.look(), folder.look()) == (0, 0)
    assert stored.counted("rcmed_instances_total", source="folder", outcome="stored") == 2


def test_a_file_that_grows_is_left_alone(stored: Stored, spool: Path, make_ct_series: Any) -> None:
    content = make_ct_series(1)[0].read_bytes()
    growing = spool / "growing.dcm"
    folder = watched(stored, spool)
    for end in (len(content) // 3, len(content) // 2, len(content)):
        growing.write_bytes(content[:end])
        assert folder.look() == 0
    assert folder.look() == 1
    assert stored.counted("rcmed_instances_total", source="folder", outcome="stored") == 1


def test_a_file_whose_copying_stalls_is_waited_for(stored: Stored, spool: Path, make_ct_series: Any) -> None:
    first, second = make_ct_series(2)
    content = second.read_bytes()
    study = pydicom.dcmread(first).StudyInstanceUID
    shutil.copy(first, spool / "first.dcm")
    (spool / "second.dcm").write_bytes(content[:-700])
    folder = watched(stored, spool)
    assert [folder.look() for _ in range(4)] == [0, 1, 0, 0]
    assert names(spool) == ["second.dcm", "taken/first.dcm"]
    lines = [line.text for line in stored.index.lines()]
    assert lines == ["file second.dcm waits in the watched folder: it has no end, and may still be written"]
    # The study of the first is not over while the second is waited for.
    assert [arrival.released_at for arrival in stored.index.arrivals(study)] == [None]
    (spool / "second.dcm").write_bytes(content)
    assert [folder.look(), folder.look()] == [0, 1]
    assert names(spool) == ["taken/first.dcm", "taken/second.dcm"]
    arrivals = stored.index.arrivals(study)
    assert len(arrivals) == 2 and all(arrival.released_at is not None for arrival in arrivals)


def test_a_file_that_gets_no_end_is_taken_as_it_is(stored: Stored, spool: Path, make_ct_series: Any) -> None:
    (source,) = make_ct_series(1)
    (spool / "cut.dcm").write_bytes(source.read_bytes()[:-700])
    now = [time.time()]
    told = WatchedFolderSettings(path=spool, settled_seconds=0)
    folder = WatchedFolder(told, stored.intake, stored.observer, "RCMED", clock=lambda: now[0])
    assert [folder.look() for _ in range(3)] == [0, 0, 0]
    now[0] += PATIENCE_SECONDS
    assert folder.look() == 1 and names(spool) == ["taken/cut.dcm"]


def test_studies_are_over_when_the_folder_is_no_longer_watched(
    stored: Stored, spool: Path, make_ct_series: Any
) -> None:
    (source,) = make_ct_series(1)
    shutil.copy(source, spool / "a.dcm")
    folder = watched(stored, spool)
    folder.look()
    (spool / "b.dcm").write_bytes(source.read_bytes()[:500])
    assert folder.look() == 1
    (arrival,) = stored.index.arrivals(pydicom.dcmread(source).StudyInstanceUID)
    assert arrival.released_at is None
    folder.stop()
    (arrival,) = stored.index.arrivals(pydicom.dcmread(source).StudyInstanceUID)
    assert arrival.released_at is not None


def test_a_young_file_is_left_alone(stored: Stored, spool: Path, make_ct_series: Any) -> None:
    shutil.copyfile(make_ct_series(1)[0], spool / "young.dcm")
    folder = watched(stored, spool, settled_seconds=3600)
    assert (folder.look(), folder.look()) == (0, 0)
    hours_ago = time.time() - 7200
    os.utime(spool / "young.dcm", (hours_ago, hours_ago))
    assert (folder.look(), folder.look()) == (0, 1)


def test_links_are_not_followed(stored: Stored, spool: Path, tmp_path: Path, make_ct_series: Any) -> None:
    (source,) = make_ct_series(1)
    (spool / "link.dcm").symlink_to(source)
    (spool / "folder").symlink_to(source.parent, target_is_directory=True)
    folder = watched(stored, spool, delete=True)
    assert (folder.look(), folder.look()) == (0, 0)
    assert source.exists()


def test_without_room_a_file_stays(
    stored: Stored, spool: Path, make_ct_series: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(make_ct_series(1)[0], spool / "a.dcm")
    folder = watched(stored, spool, delete=True)
    with monkeypatch.context() as patch:
        patch.setattr(stored.files, "free_megabytes", lambda: -1.0)
        assert [folder.look() for _ in range(3)] == [0, 0, 0]
    assert names(spool) == ["a.dcm"]
    assert folder.look() == 1
    assert names(spool) == []


def test_a_folder_that_is_gone_is_seen(stored: Stored, spool: Path) -> None:
    folder = watched(stored, spool, poll_seconds=0.01)
    spool.rmdir()
    folder.start()
    try:
        deadline = time.monotonic() + 30
        while folder.health() == "ok":
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert "No such file" in folder.health()
    finally:
        folder.stop()
