"""`rcmed annotate` given what it can't serve: one line, exit status 2, and nothing loaded before."""

from __future__ import annotations

from pathlib import Path

import pytest

from rcmed import cli


def test_a_folder_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = tmp_path / "state"
    with pytest.raises(SystemExit) as end:
        cli.main(["annotate", "--studies", str(tmp_path / "none"), "--state", str(state)])
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "no such folder" in said
    assert not state.exists()
