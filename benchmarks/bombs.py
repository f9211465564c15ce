"""Small files that stand for gigabytes, sent to a gateway as in production; after each of them an ordinary series.

python benchmarks/bombs.py [--memory 400] [--time-limit 120]

Prints for each bomb its size, what it stands for, whether it was taken, how its job ended and why, in how many seconds,
and the peak of the gateway's memory. Exit status 1 when a peak is above 1500 MB, a job did not end within the limit, or
the ordinary series was not done. The gateway may take 4 GB at all: beyond that it fails instead of the machine.
"""

from __future__ import annotations

import argparse
import json
import resource
import socket
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pydicom
from ct_instances import write_study
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, RLELossless, generate_uid

MOST_MEGABYTES = 1500
PATIENCE_SECONDS = 300.0
MARK = b"WHAT IS MADE LARGE. "


def new_instance(folder: Path) -> pydicom.Dataset:
    (file,) = write_study(folder, "bomb", 1, 64)
    dataset = pydicom.dcmread(file)
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID = (generate_uid() for _ in range(3))
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return dataset


def encoded(dataset: pydicom.Dataset) -> bytes:
    file = BytesIO()
    dataset.save_as(file, implicit_vr=False, little_endian=True, enforce_file_format=True)
    return file.getvalue()


def deflated(dataset: pydicom.Dataset, megabytes: int, is_private: bool) -> bytes:
    """Pixels, or a private element before the UIDs, of zeros that are never in memory together."""
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    if is_private:
        dataset.add_new((0x0009, 0x0010), "LO", "RCMED TEST")
        dataset.add_new((0x0009, 0x1001), "OB", MARK)
    else:
        dataset.Rows = dataset.Columns = 20_000
        dataset.PixelData = MARK
    content = encoded(dataset)
    start = 144 + int.from_bytes(content[140:144], "little")
    before, _, after = zlib.decompress(content[start:], -zlib.MAX_WBITS).partition(struct.pack("<L", len(MARK)) + MARK)
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    pieces = [content[:start], deflater.compress(before + struct.pack("<L", megabytes * 1_000_000))]
    pieces += [deflater.compress(bytes(1_000_000)) for _ in range(megabytes)]
    return b"".join([*pieces, deflater.compress(after), deflater.flush()])


def run_length(dataset: pydicom.Dataset, edge: int, frames: int = 1) -> bytes:
    """Zeros of 16 bits (PS3.5 G): for each row of each half as many runs as it needs."""
    runs, left = divmod(edge, 128)
    row = b"\x81\x00" * runs + (bytes([257 - left, 0]) if left > 1 else bytes(2) if left else b"")
    half = row * edge
    frame = struct.pack("<16L", 2, 64, 64 + len(half), *[0] * 13) + half + half
    dataset.Rows = dataset.Columns = edge
    if frames > 1:
        dataset.NumberOfFrames = frames
    dataset.PixelData = encapsulate([frame] * frames)
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = RLELossless
    return encoded(dataset)


def lying_stream(dataset: pydicom.Dataset, edge: int) -> bytes:
    """A JPEG 2000 stream of a few bytes that announces an edge of its own."""
    size = struct.pack(">HH8IH3B", 41, 0, edge, edge, 0, 0, edge, edge, 0, 0, 1, 15, 1, 1)
    dataset.PixelData = encapsulate([b"\xff\x4f\xff\x51" + size + bytes(2000)])
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    return encoded(dataset)


BOMBS: dict[str, Callable[[pydicom.Dataset], bytes]] = {
    "deflated pixels, 1.5 GB": lambda dataset: deflated(dataset, 1500, False),
    "deflated private element, 4 GB": lambda dataset: deflated(dataset, 4000, True),
    "RLE, 12000 x 12000": lambda dataset: run_length(dataset, 12_000),
    "RLE, 2000 frames of 1000 x 1000": lambda dataset: run_length(dataset, 1000, 2000),
    "JPEG 2000 that announces 60000 x 60000": lambda dataset: lying_stream(dataset, 60_000),
}


class Served:
    """`rcmed serve` on a folder, with a route for CT; inside its `with` block."""

    def __init__(self, folder: Path, memory: int, seconds: float) -> None:
        self.state = folder / "state"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        settings = {
            "state_folder": str(self.state),
            "receive": {"port": 0, "minimum_free_megabytes": 0},
            "web": {"port": self.port},
            "completion": {"quiet_seconds": 1, "released_seconds": 0.2},
            "jobs": {"memory_megabytes": memory, "time_limit_seconds": seconds},
            "routing": {
                "routes": [{"name": "ct", "prompts": ["liver"], "destinations": ["results"]}],
                "destinations": {"results": {"type": "folder", "path": "results"}},
            },
        }
        self._settings, self._log = folder / "gateway.yaml", (folder / "log").open("wb")
        self._settings.write_text(json.dumps(settings))

    def __enter__(self) -> Served:
        command = [sys.executable, "-m", "rcmed", "serve", "--config", str(self._settings)]
        self._process = subprocess.Popen(
            command,
            stdout=self._log,
            stderr=self._log,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (4 << 30, 4 << 30)),
        )
        self.wait(self._is_ready, "it listens, and has the model")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE_SECONDS)
        self._log.close()

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/healthz").status_code == 200
        except httpx.HTTPError:
            return False

    def wait(self, condition: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> Any:
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"in vain: {what}\n{Path(self._log.name).read_text()}")
            time.sleep(0.2)
        return found

    def send(self, contents: list[bytes]) -> int:
        """By STOW; the status of the answer."""
        parts = b"".join(b"--b\r\nContent-Type: application/dicom\r\n\r\n" + each + b"\r\n" for each in contents)
        kind = 'multipart/related; type="application/dicom"; boundary=b'
        url = f"http://127.0.0.1:{self.port}/dicom-web/studies"
        answer = httpx.post(url, content=parts + b"--b--\r\n", headers={"Content-Type": kind}, timeout=PATIENCE_SECONDS)
        return answer.status_code

    def ended_job(self, study_uid: str) -> tuple[str, str]:
        """How the job of a study ended, and why."""
        from dicom_bridge.jobs.ledger import JobLedger
        from dicom_bridge.store.database import Database
        from dicom_bridge.store.index import StudyIndex
        from dicom_bridge.store.states import FINAL_JOB_STATES

        database = Database(self.state / "index.sqlite")
        try:
            ledger, index = JobLedger(database), StudyIndex(database)
            (job,) = self.wait(
                lambda: [job for job in ledger.jobs(study_uid) if job.state in FINAL_JOB_STATES], "its job ends"
            )
            lines = [line.text for line in index.lines(study_uid=study_uid) if line.job_id == job.job_id]
            return job.state, job.error or "; ".join(lines)
        finally:
            database.close()

    def peak_megabytes(self) -> int:
        """Since this was asked before."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
        Path(f"/proc/{self._process.pid}/clear_refs").write_text("5")
        return int(line.split()[1]) // 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memory", type=int, default=400, help="jobs.memory_megabytes")
    parser.add_argument("--time-limit", type=float, default=120.0, help="jobs.time_limit_seconds")
    options = parser.parse_args()
    is_well = True
    with tempfile.TemporaryDirectory() as name, Served(Path(name), options.memory, options.time_limit) as served:
        folder = Path(name)
        served.peak_megabytes()
        print(
            "| what is sent | MB | answer | its job | seconds | peak, MB |\n| --- | ---: | ---: | --- | ---: | ---: |"
        )
        for number, (what, make) in enumerate(BOMBS.items()):
            dataset = new_instance(folder / "bomb")
            content = make(dataset)
            begun = time.monotonic()
            status = served.send([content])
            end, reason = (
                served.ended_job(dataset.StudyInstanceUID) if status == 200 else ("none", "refused at receipt")
            )
            seconds = time.monotonic() - begun
            peak = served.peak_megabytes()
            reason = reason.replace(str(folder), "")
            print(
                f"| {what} | {len(content) / 1e6:.1f} | {status} | {end}: {reason} | {seconds:.1f} | {peak} |",
                flush=True,
            )
            files = write_study(folder / f"sound-{number}", f"sound {number}", 3, 128)
            assert served.send([file.read_bytes() for file in files]) == 200
            next_end, _ = served.ended_job(pydicom.dcmread(files[0]).StudyInstanceUID)
            print(f"| three slices | 0.1 | 200 | {next_end} | | {served.peak_megabytes()} |", flush=True)
            is_well &= peak < MOST_MEGABYTES and seconds < options.time_limit + 60 and end != "done"
            is_well &= next_end in ("done", "refused")  # refused: the weights find nothing in a phantom
    sys.exit(0 if is_well else 1)


if __name__ == "__main__":
    main()
