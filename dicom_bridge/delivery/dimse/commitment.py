"""Storage commitment as a service class user (PS3.4 J): the peer promises to keep what it was sent.

The report comes on the association that asked for it, or later on one that the peer opens to our DICOM port; both end
up in `CommitmentReports`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom.association import Association
from pynetdicom.sop_class import StorageCommitmentPushModel  # type: ignore[attr-defined]

from rcmed.errors import RCMedError

WELL_KNOWN_INSTANCE = "1.2.840.10008.1.20.1.1"
REQUEST = 1  # Action Type ID (PS3.4 J.3.2)
# Failure Reasons (PS3.3 C.14.1.1) that may pass: processing failure, no such object instance, resource limitation.
PASSING_REASONS = (0x0110, 0x0112, 0x0213)


class CommitmentRefusedError(RCMedError):
    """The peer offers storage commitment and did not accept a request, or ended the association over it."""


@dataclass(frozen=True)
class CommitmentReport:
    """What a peer reported: SOP Instance UIDs that it keeps, and (UID, Failure Reason) of those that it does not."""

    kept: frozenset[str]
    failed: tuple[tuple[str, int], ...] = ()


@dataclass
class _Expected:
    arrived: threading.Event = field(default_factory=threading.Event)
    report: CommitmentReport | None = None


class CommitmentReports:
    """Reports that are waited for, by Transaction UID. Safe to call from any thread."""

    def __init__(self) -> None:
        self._expected: dict[str, _Expected] = {}
        self._lock = threading.Lock()

    def expect(self) -> str:
        """A new Transaction UID whose report will be waited for."""
        transaction = str(generate_uid())
        with self._lock:
            self._expected[transaction] = _Expected()
        return transaction

    def arrived(self, information: Dataset) -> bool:
        """Take the Event Information of an N-EVENT-REPORT; False when nobody waits for it (any more)."""
        transaction, report = self.read(information)
        with self._lock:
            expected = self._expected.get(transaction)
        if expected is None:
            return False
        expected.report = report
        expected.arrived.set()
        return True

    @staticmethod
    def read(information: Dataset) -> tuple[str, CommitmentReport]:
        """Transaction UID and content of a report."""
        kept = frozenset(str(item.ReferencedSOPInstanceUID) for item in information.get("ReferencedSOPSequence", []))
        failed = tuple(
            (str(item.ReferencedSOPInstanceUID), int(item.get("FailureReason", 0)))
            for item in information.get("FailedSOPSequence", [])
        )
        return str(information.get("TransactionUID", "")), CommitmentReport(kept, failed)

    def wait(self, transaction: str, seconds: float) -> CommitmentReport | None:
        """The report, or None when it did not come in time."""
        expected = self._expected[transaction]
        expected.arrived.wait(seconds)
        return expected.report

    def forget(self, transaction: str) -> None:
        """Nobody waits any more."""
        with self._lock:
            self._expected.pop(transaction, None)


def request_commitment(
    association: Association, objects: Iterable[tuple[str, str]], reports: CommitmentReports, seconds: float
) -> CommitmentReport | None:
    """Ask for commitment on an association that has the presentation context.

    Args:
        association: established; its N-EVENT-REPORTs go to `reports`.
        objects: (SOP Class UID, SOP Instance UID).
        reports: where the report arrives.
        seconds: how long it may take.
    Returns:
        None when no report came in time.
    Raises:
        CommitmentRefusedError: the request was not accepted.
    """
    transaction = reports.expect()
    try:
        request = Dataset()
        request.TransactionUID = transaction
        request.ReferencedSOPSequence = [reference(sop_class, uid) for sop_class, uid in objects]
        try:
            answer, _ = association.send_n_action(request, REQUEST, StorageCommitmentPushModel, WELL_KNOWN_INSTANCE)
        except RuntimeError as error:
            raise CommitmentRefusedError(f"the association was lost: {error}") from None
        status = answer.get("Status")
        if status != 0x0000:
            outcome = "no answer" if status is None else f"status 0x{status:04X}"
            raise CommitmentRefusedError(f"did not accept a request of storage commitment ({outcome})")
        return reports.wait(transaction, seconds)
    finally:
        reports.forget(transaction)


def reference(sop_class: str, uid: str) -> Dataset:
    """An item that refers to an instance (PS3.3 table 10-11)."""
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class
    item.ReferencedSOPInstanceUID = uid
    return item
