from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from monailabel_app.upload_sessions import META, ExpiringSessions

Make = Callable[..., TestClient]


@pytest.fixture
def image(tmp_path: Path) -> str:
    path = tmp_path / "ct--a.nii.gz"
    path.write_bytes(b"image")
    return str(path)


def age(folder: Path, seconds: int) -> None:
    """As if the session had last been used so long ago."""
    content = json.loads((folder / META).read_text())
    content["last_access_ts"] -= seconds
    (folder / META).write_text(json.dumps(content))


def test_a_session_ends_also_over_a_restart(tmp_path: Path, image: str) -> None:
    """Stock skips the cleanup while its dictionary is empty, which it is after a restart."""
    name, session = ExpiringSessions(tmp_path / "s", 100).add_session(image)
    assert Path(session.image).read_bytes() == b"image" and not os.path.exists(image)
    restarted = ExpiringSessions(tmp_path / "s", 100)
    assert bool(restarted) and restarted.remove_expired() == 0
    found = restarted.get_session(name)
    assert found is not None and found.image == session.image
    age(tmp_path / "s" / name, 101)
    assert restarted.get_session(name) is None
    assert restarted.remove_expired() == 1
    assert not (tmp_path / "s" / name).exists()


def test_use_keeps_a_session(tmp_path: Path, image: str) -> None:
    sessions = ExpiringSessions(tmp_path / "s", 100)
    name, _ = sessions.add_session(image)
    age(tmp_path / "s" / name, 90)
    assert sessions.get_session(name, update_ts=True) is not None
    age(tmp_path / "s" / name, 90)
    assert sessions.get_session(name, update_ts=False) is not None
    age(tmp_path / "s" / name, 90)
    assert sessions.get_session(name) is None


def test_a_client_may_ask_for_less_never_for_more(tmp_path: Path, image: str) -> None:
    sessions = ExpiringSessions(tmp_path / "s", 100)
    name, session = sessions.add_session(image, expiry=10**9)
    assert session.expiry == 100
    content = json.loads((tmp_path / "s" / name / META).read_text())
    (tmp_path / "s" / name / META).write_text(json.dumps({**content, "expiry": 10**9}))
    age(tmp_path / "s" / name, 101)
    assert sessions.get_session(name) is None


def test_a_damaged_session_is_removed_and_does_not_stop_the_cleanup(tmp_path: Path, image: str) -> None:
    """Stock raises AttributeError on it."""
    sessions = ExpiringSessions(tmp_path / "s", 100)
    name, _ = sessions.add_session(image)
    (tmp_path / "s" / name / META).write_text("{")
    assert sessions.get_session(name) is None
    past = time.time() - 200
    os.utime(tmp_path / "s" / name, (past, past))
    assert sessions.remove_expired() == 1


@pytest.mark.parametrize("name", ["..", "../outside", "/etc", "", "x" * 36])
def test_an_id_is_never_a_path(tmp_path: Path, name: str) -> None:
    """Stock joins it to the folder, reads `meta.info` there, and removes the folder."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / META).write_text(json.dumps({"image": "/etc/passwd", "last_access_ts": 2**40, "expiry": 1}))
    sessions = ExpiringSessions(tmp_path / "s", 100)
    assert sessions.get_session(name) is None
    sessions.remove_session(name)
    assert outside.exists() and (tmp_path / "s").exists()


def test_over_http(make_client: Make, studies: Path, tmp_path: Path) -> None:
    client = make_client(session_minutes=1)
    file = ("/home/me/ct--up.nii.gz", (studies / "ct--body.nii.gz").read_bytes())
    made = client.put("/session/", files={"files": file}).json()
    name = made["session_id"]
    assert client.get(f"/session/{name}").json()["name"] == name
    assert client.get(f"/session/{name}?image=true").content == file[1]
    asked = {"params": '{"prompt": "liver"}'}
    reply = client.post(f"/infer/rcmed?session_id={name}&output=json", data=asked)
    assert reply.json()["label_names"] == {"liver": 1}
    age(tmp_path / "state" / "sessions" / name, 61)
    assert client.post(f"/infer/rcmed?session_id={name}", data=asked).status_code == 404
    # A new server on the same state folder removes it at its start.
    make_client(session_minutes=1).app.state.monailabel.on_init_complete()  # type: ignore[attr-defined]
    assert not (tmp_path / "state" / "sessions" / name).exists()
    refused = client.put("/session/?uncompress=true", files={"files": ("a.zip", b"PK")})
    assert refused.status_code == 400 and "not unpacked" in refused.json()["detail"]
