"""Damaged files through intake and reading, in a process of its own: a crash, a hang or a lost neighbour is told.

The process has a time limit for each file; one that dies or hangs is replaced, and the file is named.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.uid import generate_uid

from dicom_bridge.logs import set_up_logging
from dicom_bridge.settings.gateway import LogSettings
from mutations import mutate
from synthetic_study import ct_slice

STUDY, SERIES = "1.2.826.0.1.3680043.8.498.1", "1.2.826.0.1.3680043.8.498.2"
NEIGHBOURS = 2


@dataclass
class MutationRun:
    """What became of the files.

    Attributes:
        outcomes: how many were stored or refused by the intake, and read or refused by the reading.
        faults: "source, seed, mutation: what was wrong" of each that did neither.
        slowest: seconds and name of the slowest file.
        peak_megabytes: largest growth of the process's memory while it handled a file.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "")
    peak_megabytes: float = 0.0


def run_mutations(cases: Iterable[tuple[Path, int]], seconds: float, megabytes: float) -> MutationRun:
    """Damage each source by its seed and take it in and read it, beside an intact series of the same study.

    Args:
        cases: source file and seed.
        seconds: longest time for one file; more is a hang.
        megabytes: most that memory may grow; more is a fault.
    """
    run = MutationRun()
    with tempfile.TemporaryDirectory(prefix="rcmed-mutations-") as folder:
        child = _Child(Path(folder))
        for source, seed in cases:
            name = f"{source.parent.name}/{source.name}, seed {seed}"
            begin = time.perf_counter()
            child.ask(source, seed)
            answer = child.answer(seconds)
            taken = time.perf_counter() - begin
            run.slowest = max(run.slowest, (taken, name))
            if isinstance(answer, str):
                run.faults.append(f"{name}, {mutate(source.read_bytes(), seed)[0]}: {answer}")
                child = _Child(Path(folder))
                continue
            outcomes, fault, grown = answer
            run.outcomes.update(outcomes)
            run.peak_megabytes = max(run.peak_megabytes, grown)
            if fault or grown > megabytes:
                said = fault or f"memory grew by {grown:.0f} MB"
                run.faults.append(f"{name}, {mutate(source.read_bytes(), seed)[0]}: {said}")
                if grown > megabytes:
                    child.end()
                    child = _Child(Path(folder))
        child.end()
    return run


class _Child:
    def __init__(self, folder: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, folder), daemon=True)
        self._process.start()
        other.close()
        if not self._pipe.poll(120) or self._pipe.recv() != "ready":
            raise RuntimeError("the process for damaged files does not start")

    def ask(self, source: Path, seed: int) -> None:
        self._pipe.send((source, seed))

    def answer(self, seconds: float) -> Any:
        """The outcomes, or what happened to the process."""
        try:
            if self._pipe.poll(seconds):
                return self._pipe.recv()
        except EOFError:
            self._process.join()
            return f"the process died, exit status {self._process.exitcode}"
        self._process.kill()
        self._process.join()
        return f"no end after {seconds:g} s"

    def end(self) -> None:
        self._pipe.close()
        self._process.join(30)
        self._process.kill()


def _serve(pipe: Connection, folder: Path) -> None:
    # Rust's decoders print their panics, which are caught; what matters is told by the pipe.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    set_up_logging(LogSettings())
    reader = _Reader(Path(tempfile.mkdtemp(dir=folder)))
    pipe.send("ready")
    while True:
        try:
            source, seed = pipe.recv()
        except EOFError:
            return
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        outcomes, fault = reader.handle(source, seed)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        pipe.send((outcomes, fault, grown))


class _Reader:
    """Intake and reading, with an intact series in the study."""

    def __init__(self, folder: Path) -> None:
        from dicom_bridge.ingest.intake import InstanceIntake, Origin
        from dicom_bridge.settings import ReceiveSettings
        from dicom_bridge.store.database import Database
        from dicom_bridge.store.files.instance_files import InstanceFiles
        from dicom_bridge.store.index import StudyIndex

        self._files = InstanceFiles(folder / "state")
        self._files.prepare()
        self._index = StudyIndex(Database(folder / "state" / "index.sqlite"))
        limits = ReceiveSettings(minimum_free_megabytes=0, maximum_instances_per_study=1_000_000)
        self._intake = InstanceIntake(limits, self._files, self._index)
        self._origin = Origin(self._index.open_association("DAMAGED", "RCMED", "127.0.0.1"), "DAMAGED", "RCMED")
        self._damaged = folder / "damaged.dcm"
        frame_of_reference = generate_uid(entropy_srcs=[STUDY])
        self._pixels = []
        for number in range(NEIGHBOURS):
            dataset = ct_slice(number, STUDY, SERIES, frame_of_reference)
            path = folder / f"{number}.dcm"
            dataset.save_as(path, enforce_file_format=True)
            self._intake.take([path.read_bytes()], self._origin)
            self._pixels.append(dataset.pixel_array)
        known = self._index.instances_of(STUDY, SERIES)
        self._neighbours = sorted(self._files.root / path for path in known.values())

    def handle(self, source: Path, seed: int) -> tuple[Sequence[str], str]:
        """What became of one file; the second is "" where all is well."""
        _, content = mutate(source.read_bytes(), seed)
        self._damaged.write_bytes(content)
        try:
            taken = self._take(content)
            was_read, fault = self._read()
        except Exception as error:
            return ("raised",), f"{type(error).__name__}: {error}"
        return (taken, was_read), fault or self._neighbour_in_store()

    def _take(self, content: bytes) -> str:
        from dicom_bridge.ingest.intake import RefusedInstanceError

        try:
            return str(self._intake.take([content], self._origin).outcome)
        except RefusedInstanceError as refusal:
            assert "\n" not in str(refusal), refusal
            assert refusal.status == 0xC000, refusal
            return "not taken"

    def _read(self) -> tuple[str, str]:
        from dicom_bridge.series.images import read_series

        reading = read_series([self._neighbours[0], self._damaged, *self._neighbours[1:]])
        for refusal in reading.refusals:
            said = str(refusal.reason)
            if len(said.splitlines()) != 1 or len(said) > 600 or not said.isprintable():
                return "refused", f"a refusal that is no plain line: {said!r}"
        images = [image for image in reading.images if image.series_instance_uid == SERIES and image.is_volume]
        if len(images) != 1 or not np.array_equal(images[0].pixels, np.stack(self._pixels)):
            return "neighbour lost", f"the neighbour is lost: {[str(refusal.reason) for refusal in reading.refusals]}"
        for image in reading.images:
            if not np.isfinite(image.pixels).all() or not np.isfinite(image.grid.affine).all():
                return "read", "values that are not finite"
        files = [*(path for image in reading.images for path in image.files)]
        files += [path for refusal in reading.refusals for path in refusal.paths]
        if sorted(files) != sorted([self._damaged, *self._neighbours]):
            return "file lost", f"not each file is read or refused once: {sorted(path.name for path in files)}"
        return ("read" if len(reading.images) > 1 else "refused"), ""

    def _neighbour_in_store(self) -> str:
        known = self._index.instances_of(STUDY, SERIES)
        here = sorted(self._files.root / path for path in known.values())
        return "" if set(self._neighbours) <= set(here) else "the neighbour is gone from the store"
