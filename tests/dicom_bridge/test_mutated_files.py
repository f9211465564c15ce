"""Damaged files: nothing crashes or hangs, memory stays bounded, and an intact series beside them is still read.

`benchmarks/mutated_files.py` does the same with as many files as one likes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest

from mutation_run import MutationRun, run_mutations
from mutation_sources import write_sources
from mutations import MUTATIONS, mutate

DATA = Path(os.environ.get("RCMED_DATA", Path(__file__).parents[3] / "shared" / "data")) / "dicom"
REAL = sorted(path for path in DATA.rglob("*") if path.is_file() and path.parent != DATA)
# Whole copies of large files cost most of the time; they come less often.
SMALL = [path for path in REAL if path.stat().st_size < 100_000]
SECONDS, MEGABYTES = 20.0, 1500.0


def run(sources: Sequence[Path], seeds: range) -> MutationRun:
    return run_mutations(((Random(seed).choice(sources), seed) for seed in seeds), SECONDS, MEGABYTES)


@pytest.mark.slow
def test_generated_files(tmp_path: Path) -> None:
    count = 200
    done = run(write_sources(tmp_path), range(count))
    assert not done.faults, "\n".join(done.faults)
    # Each file was judged twice, and neither all is refused nor all is read.
    assert done.outcomes.total() == 2 * count
    assert min(done.outcomes["read"], done.outcomes["refused"], done.outcomes["not taken"]) > count // 10


@pytest.mark.timeout(900)
@pytest.mark.skipif(not REAL, reason="no DICOM corpus at RCMED_DATA")
@pytest.mark.parametrize(
    ("sources", "seeds"), [(SMALL, range(0, 1800)), (REAL, range(1800, 2000))], ids=["small", "all"]
)
@pytest.mark.slow
def test_real_files(sources: list[Path], seeds: range) -> None:
    done = run(sources, seeds)
    assert not done.faults, "\n".join(done.faults)
    assert done.outcomes.total() == 2 * len(seeds)
    assert min(done.outcomes["read"], done.outcomes["refused"], done.outcomes["not taken"]) > len(seeds) // 10


def test_mutations_are_repeatable_and_damage(tmp_path: Path) -> None:
    content = write_sources(tmp_path)[0].read_bytes()
    for seed in range(len(MUTATIONS)):
        name, damaged = mutate(content, seed)
        assert (name, damaged) == mutate(content, seed)
    changed = [seed for seed in range(200) if mutate(content, seed)[1] != content]
    assert len(changed) > 190
