"""What every destination does, and the two ways in which it can fail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dicom_bridge.results.kinds import SUFFIXES, MessageKind, ResultKind
from rcmed.errors import RCMedError


class DestinationUnavailableError(RCMedError):
    """The destination is sick (not reachable, out of resources): the same objects can be delivered later."""


@dataclass(frozen=True)
class RefusedObject:
    """An object that the destination looked at and did not take; sending it again would not help."""

    instance_uid: str
    reason: str


@dataclass(frozen=True)
class DeliveryReceipt:
    """What the destination said of each object.

    Attributes:
        delivered: SOP Instance UIDs, and identifiers of messages, that it confirmed.
        refused: those that it did not take.
        confirmed_by: how it is known that it has them.
    """

    delivered: tuple[str, ...]
    refused: tuple[RefusedObject, ...] = ()
    confirmed_by: str = ""


class Destination(Protocol):
    """Takes the files of some kinds of results."""

    @property
    def takes(self) -> tuple[ResultKind | MessageKind, ...]:
        """Which kinds, as its settings say."""
        ...

    def deliver(self, files: Sequence[Path]) -> DeliveryReceipt:
        """Deliver all files; delivering one again that is there already must not double it.

        Raises:
            DestinationUnavailableError: try again later, with all files.
        """
        ...

    def check(self) -> str:
        """Ask whether it is there, without delivering anything; returns one line on what answered.

        Raises:
            DestinationUnavailableError: it is not.
        """
        ...


def files_for(destination: Destination, files: Sequence[Path]) -> list[Path]:
    """Those of a job's files that a destination takes."""
    suffixes = {SUFFIXES[kind] for kind in destination.takes}
    return [file for file in files if file.suffix in suffixes]
