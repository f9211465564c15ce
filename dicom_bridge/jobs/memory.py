"""What a job will take of the memory, told from its headers before anything is decoded, and what it may take."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dicom_bridge.series.headers.extent import PixelExtent, pixel_extent
from rcmed.errors import InputError

SHARE = 1 / 3
"""Of the machine's memory, for all jobs of a process, where the settings name no amount."""

# Measured by benchmarks/memory.py. Of every voxel: decoded, stacked, windowed, and a mask of it with its parts.
_BYTES_PER_VOXEL = 12
# Of every pixel of the largest slice, all channels: as numbers for the model, and what becomes of them.
_BYTES_PER_PIXEL = 48
# Inflated as a whole, read from, and kept with the header.
_INFLATED_TIMES = 3


class TooLargeError(InputError):
    """A job would take more memory than it may."""


@dataclass(frozen=True)
class JobMemory:
    """An estimate, and what it is made of.

    Attributes:
        voxels: of all instances together.
        slice_pixels: of the largest slice.
        stored_bytes: of the largest instance as it lies in memory, inflated where it is deflated.
    """

    voxels: int
    slice_pixels: int
    stored_bytes: int

    @classmethod
    def of(cls, extents: Iterable[PixelExtent]) -> JobMemory:
        """What these instances take together."""
        voxels = slice_pixels = stored = 0
        for extent in extents:
            voxels += extent.voxels
            slice_pixels = max(slice_pixels, extent.slice_pixels)
            times = _INFLATED_TIMES if extent.is_deflated else 1
            stored = max(stored, times * extent.stored_bytes)
        return cls(voxels, slice_pixels, stored)

    @property
    def bytes(self) -> int:
        """What a job takes beside the model."""
        return self.voxels * _BYTES_PER_VOXEL + self.slice_pixels * _BYTES_PER_PIXEL + self.stored_bytes


def require_memory(files: Sequence[Path], most: int) -> None:
    """Look at the headers of a job's files, and refuse what would take too much memory.

    Args:
        most: bytes that the job may take beside the model.
    Raises:
        TooLargeError: more, by the sizes that the headers tell; what can't be read is left to the reader.
    """
    estimate = JobMemory.of(pixel_extent(file, most) for file in files)
    if estimate.bytes > most:
        raise TooLargeError(
            f"{len(files)} instances with {estimate.voxels / 1e6:,.0f} million voxels would take about "
            f"{estimate.bytes / 1e6:,.0f} MB of memory, more than jobs.memory_megabytes allows ({most / 1e6:,.0f}): "
            f"raise it where the machine has the room, or send fewer or smaller images"
        )


def memory_of_a_job(megabytes: int | None, concurrency: int) -> int:
    """Bytes that a job may take: as the settings say, else its part of the share of the machine's memory."""
    return round(SHARE * machine_memory() / concurrency) if megabytes is None else megabytes * 1_000_000


def machine_memory(groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """Bytes that this process may take: the machine's memory, or what its control group is allowed (cgroups 2 and 1).

    Args:
        groups: where the control groups are mounted.
        own: the file that names the group of this process.
    """
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    names = []
    with suppress(OSError):
        for line in own.read_text().splitlines():
            _, controllers, name = line.split(":", 2)
            if controllers == "":
                names.append((groups, name, "memory.max"))
            elif "memory" in controllers.split(","):
                names.append((groups / "memory", name, "memory.limit_in_bytes"))
    for root, name, file in names:
        # A group is bound by all above it; within a container its own is mounted as the root.
        path = Path(name.lstrip("/"))
        for group in (root / path, *(root / parent for parent in path.parents)):
            with suppress(OSError, ValueError):
                found.append(int((group / file).read_text()))
    return min(found)
