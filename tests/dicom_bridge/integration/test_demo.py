"""`rcmed demo` with the shipped weights, as `make demo` runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """What the demo wrote, and what it said."""
    output = tmp_path_factory.mktemp("demo")
    command = [str(Path(sys.executable).parent / "rcmed"), "demo", "--output", str(output)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return output, ended.stdout


def answers(output: Path, study: str) -> dict[str, Any]:
    content = json.loads((output / study / "findings.json").read_text())
    return {finding["target"]: finding for finding in content["findings"]}


def test_what_is_there_is_found(demo: tuple[Path, str]) -> None:
    output, said = demo
    fundus = answers(output, "fundus")
    assert fundus["retinal vessel"]["status"] == fundus["optic disc"]["status"] == "found"
    assert (output / "fundus" / "overlay-optic_disc.png").exists()
    assert (output / "fundus" / "overlay-retinal_vessel.png").exists()
    assert "retinal vessel" in said and "found" in said


def test_what_is_not_there_is_absent(demo: tuple[Path, str]) -> None:
    output, said = demo
    tumor = answers(output, "brain")["brain tumor"]
    assert tumor["status"] == "absent" and tumor["mask"] is None
    assert not (output / "brain" / "segmentation.dcm").exists()
    assert (output / "brain" / "report.dcm").exists()
    assert "brain tumor" in said and "absent" in said


def test_validators_have_nothing_to_object(demo: tuple[Path, str], tool: Callable[[str, str], str]) -> None:
    results = [path for path in demo[0].glob("*/*.dcm") if path.parent.name != "studies"]
    assert len(results) >= 5
    for path in results:
        said = subprocess.run([tool("dciodvfy", "dicom3tools"), "-new", str(path)], capture_output=True, text=True)
        assert [line for line in (said.stdout + said.stderr).splitlines() if line.startswith("Error")] == [], path
        if path.name.endswith("report.dcm"):
            dumped = subprocess.run([tool("dsrdump", "dcmtk"), str(path)], capture_output=True, text=True)
            assert dumped.returncode == 0 and "Imaging Measurement Report" in dumped.stdout
