"""The chaos test, as large and as long as one likes: python benchmarks/chaos.py --studies 2000 --seconds 600 --seed 7

Needs PostgreSQL's programs. Prints what happened and what must not be; the exit status is 1 when anything must not be.
"""

from __future__ import annotations

import argparse
import socket
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "dicom_bridge" / "support"))

from chaos import Chaos, Plan, Report, remove  # noqa: E402
from postgresql_server import PACKAGE, server_programs  # noqa: E402


def main() -> int:
    told = argparse.ArgumentParser(description=__doc__)
    defaults = Plan()
    told.add_argument("--seed", type=int, default=defaults.seed)
    told.add_argument("--studies", type=int, default=defaults.studies)
    told.add_argument("--instances", type=int, default=defaults.instances)
    told.add_argument("--senders", type=int, default=defaults.senders)
    told.add_argument("--seconds", type=float, default=defaults.seconds)
    told.add_argument("--kills", type=int, default=defaults.kills)
    told.add_argument("--restarts", type=int, default=defaults.restarts)
    told.add_argument("--away-seconds", type=float, default=defaults.away_seconds)
    told.add_argument("--keep", action="store_true", help="keep state and logs, and say where they are")
    arguments = vars(told.parse_args())
    keep = arguments.pop("keep")
    programs = server_programs()
    if programs is None:
        sys.exit(f"PostgreSQL is not installed: install {PACKAGE}")
    folder = Path(tempfile.mkdtemp(prefix="rcmed-chaos-"))
    try:
        report = Chaos(folder, programs, free_ports(2), Plan(**arguments)).run()
    finally:
        print(f"kept in {folder}") if keep else remove(folder)
    show(report)
    return 1 if report.faults else 0


def free_ports(count: int) -> list[int]:
    with ExitStack() as probes:
        ports = []
        for _ in range(count):
            probe = probes.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            ports.append(int(probe.getsockname()[1]))
        return ports


def show(report: Report) -> None:
    for event in report.events:
        print(event)
    for what, count in report.counts.items():
        print(f"{what}: {count}")
    for what, seconds in report.seconds.items():
        print(f"{what} {seconds:.0f} s")
    print("\n".join(report.faults) or "nothing is missing, nothing is there twice")


if __name__ == "__main__":
    sys.exit(main())
