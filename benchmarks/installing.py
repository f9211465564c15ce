"""How long plain pip takes to install the wheel into a fresh environment, and whether it answers there.

python benchmarks/installing.py [--extra gateway] [--pip 23.2.1 --pip newest] [--torch 2.13.0]

A wheel is built, and for each pip an environment of its own gets torch (by the machine's own pip settings, which may
offer a CPU build), then the wheel with the extra. From an empty folder `rcmed --help` and `rcmed find` run.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
import venv
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

ROOT = Path(__file__).parents[1]
NEWEST = "newest"


def run(*command: str | Path, folder: Path | None = None) -> tuple[float, str]:
    """Seconds that a command took, and what it wrote."""
    begun = time.perf_counter()
    done = subprocess.run([*map(str, command)], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}: {done.stdout}{done.stderr}")
    return time.perf_counter() - begun, done.stdout


def install(wheel: Path, extra: str, pip: str, torch: str, work: Path) -> list[str]:
    """Cells of a line: pip, packages, seconds of torch, of the rest, of `--help` and of the first answer."""
    venv.create(work / "environment", with_pip=True)
    python, rcmed = (work / "environment" / "bin" / name for name in ("python", "rcmed"))
    run(python, "-m", "pip", "install", "--upgrade", "pip" if pip == NEWEST else f"pip=={pip}")
    of_torch, _ = run(python, "-m", "pip", "install", f"torch=={torch}")
    of_rest, _ = run(python, "-m", "pip", "install", f"{wheel}[{extra}]" if extra else wheel)
    _, listed = run(python, "-m", "pip", "list", "--format", "freeze")
    empty = work / "empty"
    empty.mkdir()
    PillowImage.fromarray(np.zeros((64, 64, 3), dtype=np.uint8)).save(empty / "fundus--dark.png")
    of_help, _ = run(rcmed, "--help", folder=empty)
    of_find, answer = run(rcmed, "find", "fundus--dark.png", "--prompt", "optic disc", folder=empty)
    if "fundus image" not in answer:
        raise SystemExit(f"rcmed find said {answer!r}")
    seconds = [f"{value:.1f}" for value in (of_torch, of_rest, of_help, of_find)]
    _, said = run(python, "-m", "pip", "--version")
    return [said.split()[1], str(len(listed.splitlines())), *seconds]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extra", default="gateway")
    parser.add_argument("--pip", action="append")
    parser.add_argument("--torch", default=version("torch").split("+")[0])
    given = parser.parse_args()
    print("| pip | packages | torch, s | the rest, s | rcmed --help, s | first answer, s |\n|" + " ---: |" * 6)
    with tempfile.TemporaryDirectory(prefix="rcmed-installing-") as folder:
        run(sys.executable, "-m", "uv", "build", "--wheel", "--out-dir", Path(folder) / "wheel", ROOT)
        (wheel,) = (Path(folder) / "wheel").glob("*.whl")
        for pip in given.pip or ["23.2.1", NEWEST]:
            work = Path(folder) / pip
            work.mkdir()
            print(f"| {' | '.join(install(wheel, given.extra, pip, given.torch, work))} |", flush=True)


if __name__ == "__main__":
    main()
