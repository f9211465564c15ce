"""Receiving over DIMSE in one paired run: the gateway, Orthanc and DCMTK's `storescp`, over 1 to 8 associations.

python benchmarks/receive.py [--repeats 5] [--instances 400] [--associations 1,2,4,8]

400 CT instances of 512 x 512, sent by DCMTK's `storescu` (a process for each association) with TCP_NODELAY=1, without
which it waits for delayed acknowledgements. The gateway is `rcmed serve` as in production: a file with its folder and
a row in the index are synced before success is answered; only the model is never asked. Everything is interleaved, and
each receiver starts anew for every repeat, and takes a few instances of another study before the clock runs: what a
process does once is told by start.py. Needs Debian's dcmtk and orthanc.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType

from ct_instances import write_study

DCMTK = Path("/usr/bin")  # pynetdicom installs commands of the same names
MAXIMUM_PDU = 131072
ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1"}
PATIENCE_SECONDS = 60.0
WARM_UP_ASSOCIATIONS, WARM_UP_INSTANCES = 4, 40
TICKS = os.sysconf("SC_CLK_TCK")


class Receiver(ABC):
    """A receiver in a process of its own; runs inside its `with` block."""

    name: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]

    @abstractmethod
    def command(self) -> list[str]: ...

    @abstractmethod
    def count(self) -> int:
        """Instances that it keeps."""

    def __enter__(self) -> Receiver:
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log, env=ENVIRONMENT, cwd=self.folder)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return self
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{self.name} does not start:\n{(self.folder / 'log').read_text()}")
            time.sleep(0.05)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder)

    def cpu_seconds(self) -> float:
        """User and system time so far, of ended children, too."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return sum(int(value) for value in fields[11:15]) / TICKS


class OurGateway(Receiver):
    name = "rcmed serve"

    def command(self) -> list[str]:
        settings = {
            "state_folder": str(self.folder / "state"),
            "receive": {"port": self.port, "maximum_pdu": MAXIMUM_PDU},
            "completion": {"quiet_seconds": 86400, "released_seconds": None},
            "model": {"load": "at the first job"},
            "web": {"port": 0},
            "routing": {"routes": [], "destinations": {}},
        }
        file = self.folder / "gateway.yaml"
        file.write_text(json.dumps(settings))  # JSON is YAML
        return [str(Path(sys.executable).with_name("rcmed")), "serve", "--config", str(file)]

    def count(self) -> int:
        connection = sqlite3.connect(self.folder / "state" / "index.sqlite")
        try:
            return int(connection.execute("SELECT COUNT(*) FROM instances").fetchone()[0])
        finally:
            connection.close()


class Orthanc(Receiver):
    name = "Orthanc"

    def command(self) -> list[str]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            http = probe.getsockname()[1]
        settings = {
            "StorageDirectory": str(self.folder / "storage"),
            "IndexDirectory": str(self.folder / "storage"),
            "Plugins": [],
            "HttpPort": http,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomAet": "ORTHANC",
            "DicomCheckCalledAet": False,
            "DicomPort": self.port,
            "MaximumPduLength": MAXIMUM_PDU,
        }
        file = self.folder / "orthanc.json"
        file.write_text(json.dumps(settings))
        program = shutil.which("Orthanc", path="/usr/sbin:/usr/bin")
        if program is None:
            raise SystemExit("Orthanc is not installed: make debian-packages")
        return [program, str(file)]

    def count(self) -> int:
        return sum(1 for file in (self.folder / "storage").glob("??/??/*") if file.stat().st_size > 100_000)


class DcmtkStorescp(Receiver):
    name = "storescp --fork"

    def command(self) -> list[str]:
        (self.folder / "files").mkdir()
        options = ["--fork", "--max-pdu", str(MAXIMUM_PDU), "--output-directory", str(self.folder / "files")]
        return [str(DCMTK / "storescp"), *options, str(self.port)]

    def count(self) -> int:
        return sum(1 for _ in (self.folder / "files").iterdir())


RECEIVERS: tuple[type[Receiver], ...] = (OurGateway, Orthanc, DcmtkStorescp)


def send(folders: list[Path], port: int) -> float:
    """Send each folder over an association of its own, all at once; returns the seconds until the last one ended."""
    options = ["--required", "--max-pdu", str(MAXIMUM_PDU), "-aec", "RECEIVER", "+sd"]
    begun = time.perf_counter()
    senders = [
        subprocess.Popen([str(DCMTK / "storescu"), *options, "127.0.0.1", str(port), str(folder)], env=ENVIRONMENT)
        for folder in folders
    ]
    if any([sender.wait() for sender in senders]):
        raise SystemExit("a sender failed")
    return time.perf_counter() - begun


def prepare(folder: Path, name: str, associations: list[int], instances: int) -> dict[int, list[Path]]:
    """A study for each number of associations, its instances dealt out to that many folders."""
    dealt: dict[int, list[Path]] = {}
    for number in associations:
        files = write_study(folder / f"study-{number}", f"{name} {number}", instances)
        dealt[number] = [folder / f"study-{number}-{part}" for part in range(number)]
        for part in dealt[number]:
            part.mkdir()
        for place, file in enumerate(files):
            file.rename(dealt[number][place % number] / file.name)
    return dealt


def measure(work: Path, repeats: int, associations: list[int], instances: int) -> None:
    dealt = prepare(work / "send", "receive", associations, instances)
    warm_up = prepare(work / "warm-up", "warm-up", [WARM_UP_ASSOCIATIONS], WARM_UP_INSTANCES)
    seconds: dict[tuple[str, int], list[float]] = {}
    cpu: dict[tuple[str, int], list[float]] = {}
    for repeat in range(repeats):
        for number in associations:
            order = RECEIVERS[repeat % len(RECEIVERS) :] + RECEIVERS[: repeat % len(RECEIVERS)]
            for kind in order:
                with kind(work / f"receiver-{kind.__name__}") as receiver:
                    send(warm_up[WARM_UP_ASSOCIATIONS], receiver.port)
                    before = receiver.cpu_seconds()
                    seconds.setdefault((kind.name, number), []).append(send(dealt[number], receiver.port))
                    used = receiver.cpu_seconds() - before
                    cpu.setdefault((kind.name, number), []).append(1000 * used / instances)
                    if receiver.count() != instances + WARM_UP_INSTANCES:
                        raise SystemExit(f"{receiver.name} keeps {receiver.count() - WARM_UP_INSTANCES} of {instances}")
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(
        f"{instances} CT instances of 512 x 512, medians of {repeats} interleaved runs, "
        f"{os.cpu_count()} cores; load {load}"
    )
    print("| associations | receiver | seconds (least - most) | instances/s | rate to Orthanc's | CPU ms/instance |")
    print("| ---: | --- | ---: | ---: | ---: | ---: |")
    for number in associations:
        for kind in RECEIVERS:
            taken = seconds[kind.name, number]
            median = statistics.median(taken)
            ratio = statistics.median(
                theirs / ours for theirs, ours in zip(seconds[Orthanc.name, number], taken, strict=True)
            )
            print(
                f"| {number} | {kind.name} | {median:.2f} ({min(taken):.2f} - {max(taken):.2f}) "
                f"| {instances / median:.0f} | {ratio:.2f} | {statistics.median(cpu[kind.name, number]):.1f} |"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--instances", type=int, default=400)
    parser.add_argument("--associations", default="1,2,4,8")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rcmed-receive-") as work:
        measure(Path(work), asked.repeats, [int(part) for part in asked.associations.split(",")], asked.instances)


if __name__ == "__main__":
    main()
