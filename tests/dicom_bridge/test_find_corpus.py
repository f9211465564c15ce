"""Every odd DICOM case through `rcmed find`: exit status 0 or 2 as the case's index says, never a traceback."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from rcmed import Assistant, cli

DATA = Path(os.environ.get("RCMED_DATA", Path(__file__).parents[3] / "shared" / "data")) / "dicom"
INDEX = DATA / "index.json"
CASES: list[dict[str, Any]] = json.loads(INDEX.read_text()) if INDEX.exists() else []
pytestmark = pytest.mark.skipif(not CASES, reason="no DICOM corpus at RCMED_DATA")


@pytest.fixture(scope="module")
def assistant() -> Assistant:
    return Assistant.from_pretrained("small", "cpu")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["path"])
@pytest.mark.slow
def test_exit_status(
    case: dict[str, Any],
    assistant: Assistant,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(Assistant, "from_pretrained", lambda *arguments, **options: assistant)
    with pytest.raises(SystemExit) as end:
        cli.main(["find", str(DATA / case["path"]), "--prompt", "liver", "--output", str(tmp_path / "out")])
    said = capsys.readouterr().err
    accepted = {
        2 if word in ("refuse", "not-an-image") else 0
        for word in f"{case['expect']} {case['also_acceptable'] or ''}".replace(",", " ").split()
        if word in ("image", "volume", "refuse", "not-an-image")
    }
    assert int(end.value.code or 0) in accepted, said
    assert "Traceback" not in said
    if end.value.code:
        assert said.startswith("rcmed: ") and len(said.splitlines()) == 1
    else:
        assert list((tmp_path / "out").rglob("findings.json"))
