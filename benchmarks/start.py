"""How long `rcmed serve` takes to listen and to have its model, and what memory it holds idle.

python benchmarks/start.py [--repeats 3]

Started as in production, once for each setting of `model.load`: the time from the start of the process until its DICOM
port takes a connection, its resident memory when it then rests, and again after its first job (four small CT slices).
"""

from __future__ import annotations

import argparse
import json
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from ct_instances import write_study

from dicom_bridge.delivery.dimse.sending import send_files

PATIENCE_SECONDS = 300.0
REST_SECONDS = 3.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def megabytes(process: subprocess.Popen[bytes]) -> float:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1000


def wait_for(condition, what: str) -> float:  # type: ignore[no-untyped-def]
    begun = time.perf_counter()
    while not condition():
        if time.perf_counter() - begun > PATIENCE_SECONDS:
            raise SystemExit(f"{what}: not within {PATIENCE_SECONDS:g} s")
        time.sleep(0.01)
    return time.perf_counter() - begun


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def metric(port: int, name: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return next((float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name)), 0.0)


def once(work: Path, load: str, files: list[Path]) -> dict[str, float]:
    dicom, web = free_port(), free_port()
    settings = {
        "state_folder": str(work / "state"),
        "receive": {"port": dicom},
        "completion": {"released_seconds": 0},
        "web": {"port": web},
        "model": {"load": load},
        "routing": {
            "routes": [{"name": "start", "prompts": ["liver"], "destinations": ["results"]}],
            "destinations": {"results": {"type": "folder", "path": "results"}},
        },
    }
    (work / "gateway.yaml").write_text(json.dumps(settings))  # JSON is YAML
    log = work / "log"
    command = [str(Path(sys.executable).with_name("rcmed")), "serve", "--config", str(work / "gateway.yaml")]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        told = {"listening, s": wait_for(lambda: listens(dicom), "listening")}
        if load == "at start":
            extra = wait_for(lambda: b" is loaded" in log.read_bytes(), "the model")
            told["model loaded, s"] = told["listening, s"] + extra
        time.sleep(REST_SECONDS)
        told["idle, MB"] = megabytes(process)
        send_files(files, "127.0.0.1", dicom, "RCMED")
        finished = 'rcmed_jobs{state="done"}'
        told["first job, s"] = wait_for(lambda: metric(web, finished) == 1, "the first job")
        time.sleep(REST_SECONDS)
        told["after the first job, MB"] = megabytes(process)
        return told
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_SECONDS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory(prefix="rcmed-start-") as folder:
        files = write_study(Path(folder) / "send", "start", 4, 128)
        columns = ("listening, s", "model loaded, s", "idle, MB", "first job, s", "after the first job, MB")
        print(f"| model.load | {' | '.join(columns)} |\n| --- |{' ---: |' * len(columns)}")
        for load in ("at start", "at the first job"):
            runs = []
            for repeat in range(repeats):
                work = Path(folder) / f"{load[-1]}-{repeat}"
                work.mkdir()
                runs.append(once(work, load, files))
            medians = [
                f"{statistics.median(run[name] for run in runs):.1f}" if name in runs[0] else "" for name in columns
            ]
            print(f"| {load} | {' | '.join(medians)} |", flush=True)


if __name__ == "__main__":
    main()
