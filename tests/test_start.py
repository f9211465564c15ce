"""What a command may not import before it has something to do: a list of modules, no time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

RUN = """
import sys
from rcmed.cli import main
try:
    main(sys.argv[1:])
except SystemExit as ended:
    print(ended.code)
print(*{name.split(".")[0] for name in sys.modules})
"""
# Each takes more than a tenth of a second.
SLOW = {"torch", "transformers", "scipy", "skimage", "nibabel", "pydicom", "highdicom", "SimpleITK"}
NEVER = {"monai", "monailabel", "mlflow", "matplotlib", "pandas", "sklearn", "itk", "tensorboard", "peft"}
NETWORK = {"pynetdicom", "fastapi", "sqlalchemy", "dbos", "requests"}


def ended(*arguments: str | Path) -> tuple[int, set[str]]:
    """Exit status of the command in a process of its own, and the packages that it imported."""
    command = [sys.executable, "-c", RUN, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    *_, status, imported = done.stdout.splitlines()
    return int(status), set(imported.split())


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["fnid", "x.png"], 2),
        (["find", "missing.png", "--prompt", "liver"], 2),
        (["find", "pyproject.toml", "--results", "stl"], 2),
        (["evaluate", "missing.json", "--root", "."], 2),
        (["train", "--config", "missing.yaml"], 2),
        (["serve", "--help"], 0),
        (["annotate", "--help"], 0),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
@pytest.mark.slow
def test_a_command_that_has_nothing_to_do_imports_nothing_slow(arguments: list[str], status: int) -> None:
    code, imported = ended(*arguments)
    assert code == status
    assert not imported & (SLOW | NEVER | NETWORK)


@pytest.mark.slow
def test_a_picture_is_answered_without_dicom_volumes_and_networks(tmp_path: Path) -> None:
    PillowImage.fromarray(np.zeros((40, 40, 3), dtype=np.uint8)).save(tmp_path / "fundus--dark.png")
    code, imported = ended(
        "find", tmp_path / "fundus--dark.png", "--prompt", "optic disc", "--output", tmp_path / "out"
    )
    assert code == 0 and "torch" in imported
    assert not imported & ({"nibabel", "pydicom", "highdicom", "SimpleITK"} | NEVER | NETWORK)
