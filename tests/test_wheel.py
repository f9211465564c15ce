"""The wheel, installed by plain pip into an environment of its own, answers without the source."""

from __future__ import annotations

import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

ROOT = Path(__file__).parents[1]


def run(*command: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*map(str, command)], cwd=folder, capture_output=True, text=True, timeout=600)


@pytest.mark.integration
@pytest.mark.timeout(900)
def test_the_wheel_answers_where_nothing_else_is(tmp_path: Path) -> None:
    built = run(sys.executable, "-m", "uv", "build", "--wheel", "--out-dir", tmp_path / "wheel", ROOT, folder=tmp_path)
    assert built.returncode == 0, built.stderr
    (wheel,) = (tmp_path / "wheel").glob("*.whl")
    venv.create(tmp_path / "environment", with_pip=True)
    bin_ = tmp_path / "environment" / "bin"
    torch = f"torch=={version('torch').split('+')[0]}"
    installed = run(bin_ / "python", "-m", "pip", "install", torch, wheel, folder=tmp_path)
    assert installed.returncode == 0, installed.stderr

    empty = tmp_path / "empty"
    empty.mkdir()
    PillowImage.fromarray(np.zeros((64, 64, 3), dtype=np.uint8)).save(empty / "fundus--dark.png")
    assert "find" in run(bin_ / "rcmed", "--help", folder=empty).stdout
    found = run(bin_ / "rcmed", "find", "fundus--dark.png", "--prompt", "optic disc", folder=empty)
    assert found.returncode == 0 and "This is a fundus image" in found.stdout, found.stderr
    assert list(empty.rglob("findings.json"))
    packages = run(bin_ / "python", "-m", "pip", "list", "--format", "freeze", folder=empty).stdout.splitlines()
    assert len(packages) < 80 and not [line for line in packages if line.startswith(("pynetdicom", "fastapi", "dbos"))]

    lacking = run(bin_ / "rcmed", "serve", folder=empty)
    assert lacking.returncode == 2 and "pip install 'rcmed[gateway]'" in lacking.stderr
    package = run(bin_ / "python", "-c", "import rcmed; print(*rcmed.__path__)", folder=empty).stdout.strip()
    assert (Path(package) / "configs" / "gateway.yaml").exists() and str(ROOT) not in package
