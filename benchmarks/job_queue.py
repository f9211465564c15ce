"""Cost per job with many studies queued, on PostgreSQL, with several workers and a model that does nothing.

    python benchmarks/job_queue.py --queued 100 1000 10000 --workers 1 2 4

For each row so many studies are queued, the workers warm up, and then the processor time of the workers and of
PostgreSQL is taken over the next jobs, while the rest stays queued. Processor time, because a machine that does other
things meanwhile stretches the time on the wall. Needs PostgreSQL's programs and Linux' /proc.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "dicom_bridge" / "support"))

from dbos import DBOS  # noqa: E402
from pydicom.uid import generate_uid  # noqa: E402
from sqlalchemy import insert, text  # noqa: E402

from dicom_bridge.jobs.ledger import UNFINISHED_JOB_STATES, JobLedger, JobState  # noqa: E402
from dicom_bridge.jobs.worker import Submission  # noqa: E402
from dicom_bridge.jobs.workflow import JobEngine  # noqa: E402
from dicom_bridge.settings import JobSettings  # noqa: E402
from dicom_bridge.store.database import Database  # noqa: E402
from dicom_bridge.store.tables import AssociationRow, InstanceRow, JobRow, SeriesRow, StudyRow  # noqa: E402
from dicom_bridge.studies.priority import Priority  # noqa: E402
from machines import Machines  # noqa: E402
from postgresql_server import PACKAGE, PostgresqlServer, server_programs  # noqa: E402
from synthetic_study import ct_slice  # noqa: E402

_WARM_UP = 3
_TICKS = os.sysconf("SC_CLK_TCK")
_SETTINGS: dict[str, Any] = {
    "jobs": {"polling_seconds": 0.2},
    "web": {"enabled": False},
    "routing": {
        "routes": [{"name": "all", "prompts": ["liver"], "destinations": ["results"]}],
        "destinations": {"results": {"type": "folder", "path": "results"}},
    },
}


class Bench:
    """One database with a queue."""

    def __init__(self, folder: Path, server: PostgresqlServer, name: str) -> None:
        self._server = server
        self._address = server.create_database(name)
        self._machines = Machines(folder, server.settings(name), _SETTINGS)
        self._database = Database(self._address)
        self._ledger = JobLedger(self._database)
        self._made = 0
        (self._machines.state / "instances").mkdir(parents=True)
        ct_slice(0, generate_uid(), generate_uid(), generate_uid()).save_as(
            self._machines.state / "instances" / "one.dcm", enforce_file_format=True
        )

    def fill(self, queued: int, real: int) -> float:
        """Queue studies until so many are; returns the milliseconds that each took to be given to the engine.

        Args:
            queued: so many.
            real: so many are submitted, which the workers will reach; the rest is put into the queue behind them.
        """
        count = queued - sum(self._ledger.count(state) for state in UNFINISHED_JOB_STATES)
        if count <= 0:
            return 0.0
        jobs = self._write_down(count)
        took = self._submit(jobs[:real])
        self._add_behind(jobs[0], jobs[real:])
        self._ledger.submitted(jobs)
        return 1000 * took

    def _submit(self, jobs: list[str]) -> float:
        """Give jobs to an engine that never polls; returns the seconds for each."""
        with self._database.writing() as session:
            if session.scalar(text("SELECT to_regclass('dbos.queues') IS NOT NULL")):
                session.execute(text("UPDATE dbos.queues SET polling_interval_sec = 3600"))
        settings = JobSettings(polling_seconds=3600)
        engine = JobEngine(self._address, _NoWorker(), settings, ["results"], "filler")  # type: ignore[arg-type]
        engine.start()
        begun = time.monotonic()
        try:
            for job in jobs:
                engine.submit(job)
            took = time.monotonic() - begun
            for name in ("jobs", "deliver-results"):  # the workers wait as long as they find it written down
                DBOS.register_queue(name, worker_concurrency=1, polling_interval_sec=0.2, on_conflict="always_update")
        finally:
            engine.stop()
        return took / len(jobs)

    def measure(self, workers: int, jobs: int) -> tuple[float, float, float]:
        """Milliseconds per job over so many jobs: of the workers, of PostgreSQL, on the wall."""
        names = [f"worker-{number}" for number in range(workers)]
        with self._machines as machines:
            for name in names:
                machines.start(name, until_running=False)
            known = {name: len(machines.asked(name)) for name in names}
            machines.wait_until(
                lambda: all(len(machines.asked(name)) - known[name] > _WARM_UP for name in names), "warm", 600
            )
            processes = [machines.process_id(name) for name in names]
            done, begun = self._ledger.count(JobState.DONE), time.monotonic()
            before = sum(map(_seconds, processes)), self._server_seconds()
            machines.wait_until(lambda: self._ledger.count(JobState.DONE) >= done + jobs, "done", 600)
            count, wall = self._ledger.count(JobState.DONE) - done, time.monotonic() - begun
            after = sum(map(_seconds, processes)), self._server_seconds()
        return tuple(1000 * value / count for value in (after[0] - before[0], after[1] - before[1], wall))  # type: ignore[return-value]

    def _add_behind(self, first: str, jobs: list[str]) -> None:
        """Put the engine's rows of more jobs into the queue, like one that is there but a day later: no one gets there,
        and the engine has to find its way past them.
        """
        table = "dbos.workflow_status"
        with self._database.writing() as session:
            names = session.scalars(
                text("SELECT column_name FROM information_schema.columns WHERE table_schema || '.' || table_name = :t"),
                {"t": table},
            )
            told = {name: f'"{name}"' for name in names}
            told |= {"workflow_uuid": ":job", "created_at": "created_at + :later"}
            columns = ", ".join(f'"{name}"' for name in told)
            copy = f"INSERT INTO {table} ({columns}) SELECT {', '.join(told.values())} FROM {table}"
            rows = [{"first": first, "job": job, "later": 86_400_000 + number} for number, job in enumerate(jobs)]
            if rows:
                session.execute(text(f"{copy} WHERE workflow_uuid = :first"), rows)

    def close(self) -> None:
        self._database.close()

    def _server_seconds(self) -> float:
        main = self._server.process_id
        children = Path(f"/proc/{main}/task/{main}/children").read_text().split()
        # Of the main process also what its ended children took.
        return _seconds(main, with_children=True) + sum(_seconds(int(child)) for child in children)

    def _write_down(self, count: int) -> list[str]:
        """Studies with one instance and one job each, as if they had been received and completed."""
        now = time.time()
        studies = [f"1.2.3.{self._made + number}" for number in range(count)]
        self._made += count
        jobs = [hashlib.sha256(study.encode()).hexdigest() for study in studies]
        closed = {"first_received_at": now, "last_received_at": now, "generation": 1, "is_open": False}
        stored = {"sop_class_uid": "1.2", "transfer_syntax_uid": "1.2", "path": "instances/one.dcm", "received_at": now}
        job = {"generation": 1, "route": "all", "prompts": ["liver"], "destinations": ["results"], "state": "queued"}
        with self._database.writing() as session:
            told = {"calling_ae": "A", "called_ae": "B", "peer": "p", "opened_at": now, "released_at": now}
            session.execute(insert(AssociationRow), [{"id": studies[0], **told}])
            session.execute(insert(StudyRow), [{"study_uid": study, **closed} for study in studies])
            session.execute(insert(SeriesRow), [{"study_uid": study, "series_uid": f"{study}.1"} for study in studies])
            session.execute(
                insert(InstanceRow),
                [
                    {
                        "study_uid": study,
                        "series_uid": f"{study}.1",
                        "instance_uid": f"{study}.1.1",
                        "association": studies[0],
                        **stored,
                    }
                    for study in studies
                ],
            )
            session.execute(
                insert(JobRow),
                [
                    {
                        "job_id": job_id,
                        "study_uid": study,
                        "series_uid": f"{study}.1",
                        "instances": [f"{study}.1.1"],
                        "created_at": now + number / 1e6,
                        **job,
                    }
                    for number, (job_id, study) in enumerate(zip(jobs, studies, strict=True))
                ],
            )
        return jobs


class _NoWorker:
    """The engine that only fills the queue does no steps."""

    def __init__(self) -> None:
        self.stopping = threading.Event()

    def submission(self, job_id: str) -> Submission:
        return Submission(1, Priority.ROUTINE, {})


def _seconds(process: int, with_children: bool = False) -> float:
    """Processor time of a process; 0 when it is gone."""
    try:
        told = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, told[11 : 15 if with_children else 13])) / _TICKS


def main() -> None:
    told = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    told.add_argument("--queued", type=int, nargs="+", default=[100, 1000, 10_000])
    told.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    told.add_argument(
        "--jobs", type=int, default=80, help="jobs that are measured; more than the least queued is no use"
    )
    arguments = told.parse_args()
    programs = server_programs()
    if programs is None:
        sys.exit(f"PostgreSQL is not installed: install {PACKAGE}")
    os.environ["OMP_NUM_THREADS"] = "1"
    print(
        "| queued | workers | ms of a worker's processor | ms of PostgreSQL's | ms on the wall | jobs | ms to submit |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for queued in arguments.queued:
        with tempfile.TemporaryDirectory(prefix="rcmed-queue-") as folder, PostgresqlServer(programs) as server:
            bench = Bench(Path(folder), server, "rcmed")
            for workers in arguments.workers:
                jobs = min(arguments.jobs, queued - 10 * workers)
                submit = bench.fill(queued, jobs + 8 * workers)
                of_workers, of_postgresql, wall = bench.measure(workers, jobs)
                print(
                    f"| {queued} | {workers} | {of_workers:.0f} | {of_postgresql:.1f} | {wall:.0f} | {jobs} "
                    f"| {submit:.1f} |",
                    flush=True,
                )
            bench.close()


if __name__ == "__main__":
    main()
