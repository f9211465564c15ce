"""The audit trail: what is changed, removed or put in is found."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dicom_bridge.audit import AuditError, AuditEvent, AuditTrail, Outcome, verify


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
    from dicom_bridge.audit import _digest

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
