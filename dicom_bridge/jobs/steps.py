"""A step of a job as it is shown."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class JobStep:
    """A finished step of a job; times in seconds since the epoch."""

    name: str
    begun_at: float
    ended_at: float
