"""The audit trail: what is changed, removed or put in is found."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dicom_bridge.events.audit import (
    AuditError,
    AuditEvent,
    AuditTrail,
    Outcome,
    Rotation,
    trail_files,
    verified,
    verify,
)


@pytest.fixture
def trail(tmp_path: Path) -> Path:
    """Ten records, written in two lives."""
    path = tmp_path / "audit.jsonl"
    for life in range(2):
        opened = AuditTrail(path, clock=lambda: 1_700_000_000.5)
        for number in range(5):
            opened.record(AuditEvent.EXPORT, Outcome.SUCCESS, destination="pacs", study=f"1.2.{life}.{number}")
        opened.close()
    return path


def test_records_follow_ihe_atna(trail: Path) -> None:
    assert verify(trail) == 10
    record = json.loads(trail.read_text().splitlines()[3])
    assert record["event"] == {"code": "110106", "scheme": "DCM", "meaning": "Export"}
    assert (record["number"], record["outcome"], record["study"]) == (4, 0, "1.2.0.3")
    assert record["time"] == "2023-11-14T22:13:20.500+00:00"
    assert trail.stat().st_mode & 0o077 == 0


def test_a_missing_line_is_found(trail: Path) -> None:
    lines = trail.read_text().splitlines(keepends=True)
    trail.write_text("".join(lines[:4] + lines[5:]))
    with pytest.raises(AuditError, match="line 5"):
        verify(trail)


def test_lines_in_another_order_are_found(trail: Path) -> None:
    lines = trail.read_text().splitlines(keepends=True)
    trail.write_text("".join([*lines[:2], lines[3], lines[2], *lines[4:]]))
    with pytest.raises(AuditError, match="line 3"):
        verify(trail)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(place=st.integers(min_value=0), new=st.integers(0, 255))
def test_an_altered_byte_is_found(trail: Path, place: int, new: int) -> None:
    whole = trail.read_bytes()
    place %= len(whole) - 1  # the last line feed alone changes nothing
    altered = bytearray(whole)
    altered[place] = new
    if json_lines(bytes(altered)) == json_lines(whole):
        return
    other = trail.with_name("altered.jsonl")
    other.write_bytes(altered)
    with pytest.raises(AuditError, match="line"):
        verify(other)


def json_lines(content: bytes) -> list[object] | None:
    try:
        return [json.loads(line) for line in content.split(b"\n") if line]
    except ValueError:
        return None


def test_an_altered_record_with_a_new_digest_breaks_the_chain(trail: Path) -> None:
    """Who rewrites one record must rewrite all that follow, and the head that was logged elsewhere gives it away."""
    from dicom_bridge.events.audit import _digest

    lines = trail.read_text().splitlines()
    record = json.loads(lines[2])
    record["study"] = "9.9.9"
    del record["sha256"]
    record["sha256"] = _digest(record)
    lines[2] = json.dumps(record)
    trail.write_text("\n".join(lines) + "\n")
    with pytest.raises(AuditError, match="line 4"):
        verify(trail)


def test_a_line_that_a_crash_tore_is_put_aside_and_told(trail: Path) -> None:
    whole = trail.read_bytes()
    trail.write_bytes(whole[:-20])
    opened = AuditTrail(trail)
    opened.record(AuditEvent.APPLICATION_START, Outcome.SUCCESS)
    opened.close()
    assert verify(trail) == 11  # nine, one that tells of the torn one, one new
    (aside,) = trail.parent.glob("audit.jsonl.torn-*")
    assert aside.read_bytes() == whole.splitlines(keepends=True)[-1][:-20]
    assert json.loads(trail.read_text().splitlines()[9])["torn_line"] == aside.name


def test_records_of_several_threads_make_one_chain(tmp_path: Path) -> None:
    opened = AuditTrail(tmp_path / "audit.jsonl")
    threads = [
        threading.Thread(target=lambda: [opened.record(AuditEvent.EXPORT, Outcome.SUCCESS) for _ in range(20)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    head = opened.head
    opened.close()
    assert verify(tmp_path / "audit.jsonl") == 80
    assert AuditTrail(tmp_path / "audit.jsonl").head == head


def test_another_file_is_not_written_to(tmp_path: Path) -> None:
    other = tmp_path / "audit.jsonl"
    other.write_text("hello\n")
    with pytest.raises(AuditError):
        AuditTrail(other)
    assert other.read_text() == "hello\n"


# files that are closed, with one chain through all


@pytest.fixture
def rotated(tmp_path: Path) -> Path:
    """Twelve records in four files, written in two lives."""
    path = tmp_path / "audit.jsonl"
    for _ in range(2):
        opened = AuditTrail(path, rotation=Rotation(bytes=1000))
        for number in range(6):
            opened.record(AuditEvent.EXPORT, Outcome.SUCCESS, destination="pacs", study=f"1.2.{number}")
        opened.close()
    return path


def test_the_chain_goes_on_in_the_next_file(rotated: Path) -> None:
    files = trail_files(rotated)
    assert len(files) > 2 and files[-1] == rotated
    assert [len(file.read_text().splitlines()) for file in files[:-1]] == [3] * (len(files) - 1)
    assert files[0].name == "audit.0000000003.jsonl"
    found = verified(rotated)
    assert (found.first, found.last, found.files) == (1, 12, len(files))
    assert all(file.stat().st_mode & 0o077 == 0 for file in files)


def test_a_file_in_the_middle_that_is_missing_or_altered_is_found(rotated: Path) -> None:
    second = trail_files(rotated)[1]
    whole = second.read_text()
    second.write_text(whole.replace("1.2.4", "1.2.9"))
    with pytest.raises(AuditError, match=rf"{second.name}: line 2: it was altered"):
        verify(rotated)
    second.unlink()
    with pytest.raises(AuditError, match=r"audit\.0000000009\.jsonl: line 1: records before it are missing"):
        verify(rotated)


def test_the_oldest_files_may_be_moved_away(rotated: Path) -> None:
    trail_files(rotated)[0].unlink()
    found = verified(rotated)
    assert (found.first, found.last, found.records) == (4, 12, 9)


def test_a_crash_between_two_files_loses_no_number(rotated: Path) -> None:
    rotated.rename(rotated.with_name("audit.0000000012.jsonl"))
    opened = AuditTrail(rotated)
    opened.record(AuditEvent.APPLICATION_START, Outcome.SUCCESS)
    opened.close()
    assert verified(rotated).last == 13


def test_a_file_is_closed_when_its_first_record_is_old(tmp_path: Path) -> None:
    now = 1_700_000_000.0
    path = tmp_path / "audit.jsonl"
    opened = AuditTrail(path, lambda: now, Rotation(seconds=100))
    for later in (0, 60, 99, 101, 150, 202):
        now = 1_700_000_000.0 + later
        opened.record(AuditEvent.EXPORT, Outcome.SUCCESS)
    opened.close()
    assert [file.name for file in trail_files(path)] == [
        "audit.0000000003.jsonl",
        "audit.0000000005.jsonl",
        "audit.jsonl",
    ]
    assert verify(path) == 6


def test_a_record_that_is_longer_than_what_is_read_at_once(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    opened = AuditTrail(path)
    for _ in range(2):
        opened.record(AuditEvent.EXPORT, Outcome.SUCCESS, delivered=[f"1.2.{number}" for number in range(20_000)])
    opened.close()
    opened = AuditTrail(path)
    opened.record(AuditEvent.EXPORT, Outcome.SUCCESS)
    opened.close()
    assert verify(path) == 3
