"""Series that are read while it is waited whether their study is complete, so that its jobs need not read them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dicom_bridge.jobs.memory import require_memory
from dicom_bridge.store.files.instance_files import prefetch
from rcmed.errors import RCMedError

if TYPE_CHECKING:
    from dicom_bridge.results.sources.source import KnownSources
    from dicom_bridge.series.images import SeriesReading

_LOG = logging.getLogger(__name__)
_PATIENCE_SECONDS = 10.0


@dataclass(frozen=True, eq=False)
class JobReading:
    """A series as a job needs it: its images, and what the results of these will refer to."""

    series: SeriesReading
    sources: KnownSources


class ReadingAhead:
    """Holds what was read of one study at most, until it is asked for or proves to be a wrong guess."""

    def __init__(self, maximum_bytes: int, memory_bytes: int | None = None) -> None:
        """Prepare.

        Args:
            maximum_bytes: of the files of a study; a larger one is not read ahead. 0: none is.
            memory_bytes: that a job may take; what would take more is not read. None: as much as it wants.
        """
        self._maximum_bytes = maximum_bytes
        self._memory_bytes = memory_bytes
        self._lock = threading.Lock()
        self._readings: dict[tuple[Path, ...], Future[JobReading]] = {}
        self._thread: ThreadPoolExecutor | None = None

    def begin(self, series: Iterable[Sequence[Path]]) -> None:
        """Read these series, each given by its files, in a thread; what was read before is let go."""
        wanted = {tuple(files) for files in series}
        try:
            size = sum(path.stat().st_size for files in wanted for path in files)
        except OSError:
            return  # the job will say which file is gone
        self.forget()
        if not wanted or size > self._maximum_bytes:
            return
        with self._lock:
            if self._thread is None:
                self._thread = ThreadPoolExecutor(1, "reading-ahead")
            self._readings = {files: self._thread.submit(self._read, files) for files in sorted(wanted)}

    def take(self, files: Sequence[Path]) -> JobReading | None:
        """What was read of exactly these files, once; waits until they are read. None: read them."""
        with self._lock:
            reading = self._readings.pop(tuple(files), None)
        if reading is None:
            self.forget()  # another series than was expected: what is held may never be asked for
            return None
        wait([reading], timeout=_PATIENCE_SECONDS)
        if reading.cancel():
            return None  # not even begun: what is read before it may be stuck, which is no fault of this one
        try:
            return reading.result()
        except Exception as error:  # reading again raises it where a step may raise
            _LOG.debug("could not be read ahead: %s", error)
            return None

    def forget(self) -> None:
        """Let go of everything."""
        with self._lock:
            for reading in self._readings.values():
                reading.cancel()
            self._readings = {}

    def stop(self) -> None:
        """Let go of everything and end the thread."""
        self.forget()
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.shutdown(wait=True)

    def _read(self, files: tuple[Path, ...]) -> JobReading:
        """As `read_files`, with the sources, which otherwise are read when results are built."""
        reading = read_files(files, self._memory_bytes)
        for image in reading.series.images:
            with suppress(RCMedError):  # building the result will say it
                reading.sources.source_of(image)
        return reading


def read_files(files: Sequence[Path], memory_bytes: int | None = None) -> JobReading:
    """Read a series that may have left the system's memory since it was received.

    Args:
        files: of the series.
        memory_bytes: that a job may take; None: as much as it wants.
    Raises:
        TooLargeError: it would take more; nothing is decoded then.
    """
    from dicom_bridge.results.sources.source import KnownSources
    from dicom_bridge.series.images import read_series

    if memory_bytes is not None:
        require_memory(files, memory_bytes)
    prefetch(files)
    series = read_series(files)
    return JobReading(series, KnownSources(series.headers))
