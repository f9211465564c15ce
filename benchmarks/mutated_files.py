"""Damage DICOM files and read them; print what became of them and every fault.

python benchmarks/mutated_files.py FOLDER [--count 20000] [--first-seed 0] [--streams]

The seeds from 0 to 1999 are those of the tests. `--streams` damages compressed pixel data only.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "dicom_bridge" / "support"))

from mutation_run import run_mutations
from mutations import MUTATIONS

STREAM_MUTATIONS = ("flip_stream_bits", "change_stream_size", "change_fragments", "huge_matrix", "many_frames")


def main() -> int:
    """Run; returns 1 where there was a fault."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--count", type=int, default=20_000)
    arguments.add_argument("--first-seed", type=int, default=0)
    arguments.add_argument("--streams", action="store_true")
    arguments.add_argument("--seconds", type=float, default=20.0)
    chosen = arguments.parse_args()
    sources = sorted(
        path for path in chosen.folder.rglob("*") if path.is_file() and path.suffix not in (".json", ".md")
    )
    seeds = range(chosen.first_seed, chosen.first_seed + chosen.count)
    begin = time.perf_counter()
    done = run_mutations(
        stream_cases(sources, seeds) if chosen.streams else cases(sources, seeds), chosen.seconds, 1500
    )
    print(f"{chosen.count} files in {time.perf_counter() - begin:.0f} s: {dict(done.outcomes.most_common())}")
    print(f"slowest {done.slowest[0]:.1f} s ({done.slowest[1]}), memory grew by at most {done.peak_megabytes:.0f} MB")
    print("\n".join(done.faults) or "no fault")
    return 1 if done.faults else 0


def cases(sources: list[Path], seeds: range) -> Iterator[tuple[Path, int]]:
    """Any file, mutations by turns."""
    for seed in seeds:
        yield Random(seed).choice(sources), seed


def stream_cases(sources: list[Path], seeds: range) -> Iterator[tuple[Path, int]]:
    """Files with compressed pixels, and only seeds whose mutation concerns them."""
    markers = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"1.2.840.10008.1.2.5\0")
    compressed = [path for path in sources if any(marker in path.read_bytes() for marker in markers)]
    names = list(MUTATIONS)
    for seed in seeds:
        wanted = names.index(STREAM_MUTATIONS[seed % len(STREAM_MUTATIONS)])
        yield Random(seed).choice(compressed), seed * len(names) + wanted


if __name__ == "__main__":
    sys.exit(main())
