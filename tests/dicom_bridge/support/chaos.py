"""Everything goes wrong at once, and afterwards nothing may be missing and nothing may be there twice.

Several senders send studies to two receivers; these and a worker share a PostgreSQL and are killed with SIGKILL at
random points and started again; PostgreSQL is restarted, in good order and not; the destination is away for a while;
the disk is full for a while.
"""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from dicom_bridge.results.identifiers import ResultIdentifiers
from dicom_bridge.store.states import DeliveryState, JobState
from machines import Machines
from persistent_sender import PersistentSender
from postgresql_server import PostgresqlServer
from resilient_pacs import ResilientPacs
from synthetic_study import ct_slice

RECEIVERS = ("receiver-1", "receiver-2")
WORKERS = ("worker-1",)
LOST_SECONDS = 4.0
_PATIENCE = 240.0


@dataclass(frozen=True)
class Plan:
    """How much of what.

    Attributes:
        seed: of everything that is drawn by chance; what the machine makes of it is chance all the same.
        studies, instances, senders: how many studies of how many instances from how many senders.
        seconds: over which they are sent.
        kills: how many processes are killed.
        restarts: how often PostgreSQL is restarted; every other time in the middle of everything (immediate).
        away_seconds: how long the destination and, at another time, the disk's room are away.
    """

    seed: int = 0
    studies: int = 200
    instances: int = 2
    senders: int = 4
    seconds: float = 60.0
    kills: int = 6
    restarts: int = 2
    away_seconds: float = 6.0


@dataclass
class Report:
    """What happened.

    Attributes:
        faults: what must not be; empty when all is well.
        events: what was done to them, with the second.
        counts: of studies, instances, jobs and so on.
        seconds: until everything was sent, and until everything was delivered.
    """

    faults: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


class Chaos:
    """One run."""

    def __init__(self, folder: Path, programs: Path, ports: Sequence[int], plan: Plan) -> None:
        """Prepare.

        Args:
            folder: empty.
            programs: of PostgreSQL.
            ports: two free ones.
            plan: how much of what.
        """
        self._folder = folder
        self._programs = programs
        self._ports = ports
        self._plan = plan
        self._random = random.Random(plan.seed)
        self.report = Report()

    def run(self) -> Report:
        """Do it all."""
        with PostgresqlServer(self._programs) as server, ResilientPacs() as pacs:
            server.create_database("rcmed")
            settings = server.settings("rcmed")
            with Machines(
                self._folder, settings, _settings(pacs.port), dict(zip(RECEIVERS, self._ports, strict=True))
            ) as machines:
                studies = [self._study() for _ in range(self._plan.studies)]
                senders = self._send(machines, server, pacs, studies)
                self._require_everything(machines, pacs, studies, senders)
        return self.report

    # doing

    def _study(self) -> list[Dataset]:
        study, series, frame_of_reference = generate_uid(), generate_uid(), generate_uid()
        return [ct_slice(number, study, series, frame_of_reference) for number in range(self._plan.instances)]

    def _send(
        self, machines: Machines, server: PostgresqlServer, pacs: ResilientPacs, studies: list[list[Dataset]]
    ) -> list[PersistentSender]:
        plan = self._plan
        for name in (*RECEIVERS, *WORKERS):
            machines.start(name, receives=name in RECEIVERS, until_running=False)
        for name in (*RECEIVERS, *WORKERS):
            machines.wait_until(lambda name=name: machines.is_running(name), f"{name} runs")  # type: ignore[misc]
        begun = time.monotonic()
        pause = plan.seconds * plan.senders / plan.studies
        senders = [
            PersistentSender(f"CT{number:02}", self._ports, studies[number :: plan.senders], pause, plan.seed + number)
            for number in range(plan.senders)
        ]
        for sender in senders:
            sender.start()
        try:
            for at, what, event in self._events(machines, server, pacs):
                self._wait(machines, begun + at, lambda: False)
                self.report.events.append(f"{time.monotonic() - begun:5.1f} s {what}")
                event()
            self._wait(machines, time.monotonic() + _PATIENCE, lambda: not any(sender.is_alive() for sender in senders))
        finally:
            for sender in senders:
                sender.stop()
        self.report.seconds["everything was acknowledged after"] = time.monotonic() - begun
        with machines.opened() as (index, ledger):
            self._wait(
                machines,
                time.monotonic() + _PATIENCE,
                lambda: not index.open_studies() and not ledger.has_unfinished(),
            )
        self.report.seconds["everything was delivered after"] = time.monotonic() - begun
        return senders

    def _events(
        self, machines: Machines, server: PostgresqlServer, pacs: ResilientPacs
    ) -> list[tuple[float, str, Callable[[], None]]]:
        """(second, what, how), in the order of time; every process runs after the last one."""
        plan, chance = self._plan, self._random
        events: list[tuple[float, str, Callable[[], None]]] = []
        free_at = dict.fromkeys((*RECEIVERS, *WORKERS), 0.0)
        for number in range(plan.kills):
            at = plan.seconds * (number + chance.uniform(0.1, 0.9)) / plan.kills
            name = chance.choice([name for name in free_at if free_at[name] <= at] or list(free_at))
            at = max(at, free_at[name])
            # Sometimes it is back at once, sometimes only after the others have taken its work over.
            back = at + chance.choice((0.2, LOST_SECONDS + 3.0))
            free_at[name] = back + 5.0
            events.append((at, f"{name} is killed", lambda name=name: machines.kill(name)))  # type: ignore[misc]
            events.append((back, f"{name} is started", lambda name=name: self._start(machines, name)))  # type: ignore[misc]
        for number in range(plan.restarts):
            at = plan.seconds * (number + chance.uniform(0.2, 0.8)) / plan.restarts
            how = (signal.SIGQUIT, signal.SIGINT)[number % 2]
            events.append((at, f"PostgreSQL is stopped with {how.name}", lambda how=how: server.stop(how)))  # type: ignore[misc]
            events.append(
                (at + chance.uniform(0.5, 3.0), "PostgreSQL is started", lambda: server.start(until_ready=False))
            )
        for what, stop, start in (
            ("the destination", pacs.stop, pacs.start),
            ("room on the disk", machines.fill_disk, machines.free_disk),
        ):
            at = chance.uniform(0.1, 0.8) * plan.seconds
            events.append((at, f"{what} is gone", stop))
            events.append((at + plan.away_seconds, f"{what} is back", start))
        return sorted(events, key=lambda event: event[0])

    def _wait(self, machines: Machines, until: float, condition: Callable[[], bool]) -> None:
        """Until a time (of `time.monotonic`) or a condition; processes that end by themselves are started again."""
        while time.monotonic() < until and not condition():
            for name in machines.revive():
                self.report.events.append(f"        {name} ended by itself and is started again")
            time.sleep(min(0.2, max(until - time.monotonic(), 0.0)))

    def _start(self, machines: Machines, name: str) -> None:
        machines.start(name, receives=name in RECEIVERS, until_running=False)

    # looking

    def _require_everything(
        self,
        machines: Machines,
        pacs: ResilientPacs,
        studies: list[list[Dataset]],
        senders: list[PersistentSender],
    ) -> None:
        faults, counts = self.report.faults, self.report.counts
        acknowledged = {uid for sender in senders for uid in sender.acknowledged}
        sent = {str(dataset.SOPInstanceUID): dataset for study in studies for dataset in study}
        counts["studies"], counts["instances acknowledged"] = len(studies), len(acknowledged)
        statuses: Counter[int | None] = Counter()
        for sender in senders:
            statuses.update(sender.statuses)
        for status, count in statuses.items():
            counts["answers lost" if status is None else f"answers 0x{status:04X}"] = count
        if acknowledged != set(sent):
            faults.append(f"{len(set(sent) - acknowledged)} instances were never acknowledged")
        expected: dict[str, str] = {}
        with machines.opened() as (index, ledger):
            rows = {}
            for study in studies:
                first = study[0]
                rows.update(index.instances_of(first.StudyInstanceUID, first.SeriesInstanceUID))
            for uid in sorted(acknowledged - set(rows)):
                faults.append(f"instance {uid} was acknowledged and is not in the index")
            for uid, path in rows.items():
                file = machines.state / path
                if not file.is_file() or pydicom.dcmread(file) != sent[uid]:
                    faults.append(f"instance {uid} is not on the disk as it was sent")
            files = [file for file in (machines.state / "instances").rglob("*.dcm")]
            if len(files) != len(rows):
                faults.append(f"{len(files)} files of {len(rows)} instances")
            jobs = ledger.jobs(limit=1_000_000)
            counts["jobs"] = len(jobs)
            for study in studies:
                uids = {str(dataset.SOPInstanceUID) for dataset in study}
                if not any(set(job.instances) == uids for job in ledger.jobs(study[0].StudyInstanceUID)):
                    faults.append(f"study {study[0].StudyInstanceUID} has no job with all its instances")
            attempts = 0
            for job in jobs:
                deliveries = ledger.deliveries(job.job_id)
                attempts += sum(delivery.attempts for delivery in deliveries)
                if job.state != JobState.DONE or [one.state for one in deliveries] != [DeliveryState.DELIVERED]:
                    faults.append(f"job {job.job_id} is {job.state} ({job.error}), {[one.state for one in deliveries]}")
                identifiers = ResultIdentifiers.derive(job.job_id)
                expected |= {identifiers.segmentation_uid: "SEG", identifiers.report_uid: "SR"}
            counts["attempts to deliver"] = attempts
            counts["lines"] = len(index.lines(limit=1_000_000))
        self._require_results(machines, pacs, expected)

    def _require_results(self, machines: Machines, pacs: ResilientPacs, expected: dict[str, str]) -> None:
        faults, counts = self.report.faults, self.report.counts
        got = {uid: one.modality for uid, one in pacs.objects.items()}
        counts["objects at the destination"] = len(got)
        counts["objects sent again"] = sum(len(one.contents) - 1 for one in pacs.objects.values())
        for uid in sorted(set(expected) - set(got)):
            faults.append(f"{expected[uid]} {uid} is missing at the destination")
        for uid in sorted(set(got) - set(expected)):
            faults.append(f"{got[uid]} {uid} at the destination is of no job")
        for uid, one in pacs.objects.items():
            if len(set(one.contents)) != 1:
                faults.append(f"{one.modality} {uid} came with {len(set(one.contents))} different contents")
        told = Counter(uid for export in machines.exports() for uid in export["delivered"])
        counts["exports in the audit trails"] = sum(told.values())
        for uid, count in told.items():
            if count > 1:
                faults.append(f"{uid} is told to be delivered {count} times")
        names = (*RECEIVERS, *WORKERS)
        counts["take-overs"] = sum(machines.said(name).count(" is gone: ") for name in names)
        counts["tracebacks in the logs"] = sum(machines.said(name).count("Traceback") for name in names)


def _settings(port: int) -> dict[str, object]:
    return {
        "workers": {"heartbeat_seconds": 1.0, "lost_seconds": LOST_SECONDS},
        "receive": {"minimum_free_megabytes": 1},
        "completion": {"quiet_seconds": 30, "released_seconds": 0.3},
        "jobs": {"polling_seconds": 0.2},
        "delivery": {"first_wait_seconds": 0.2, "maximum_wait_seconds": 1, "timeout_seconds": 10},
        "web": {"enabled": False},
        "routing": {
            "routes": [{"name": "ct", "prompts": ["liver"], "destinations": ["pacs"]}],
            "destinations": {
                "pacs": {"type": "c_store", "host": "127.0.0.1", "port": port, "called_ae": ResilientPacs.ae_title}
            },
        },
    }


def remove(folder: Path) -> None:
    """What a run wrote."""
    shutil.rmtree(folder, ignore_errors=True)
