"""How urgent a study is, as DICOM says it and as jobs are ordered by it."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from pydicom.dataset import Dataset


class Priority(StrEnum):
    """The most urgent first; the values of Requested Procedure Priority (PS3.3 C.4.11), MEDIUM being ROUTINE."""

    STAT = "stat"
    HIGH = "high"
    ROUTINE = "routine"
    LOW = "low"

    @property
    def rank(self) -> int:
        """1 for the most urgent."""
        return list(Priority).index(self) + 1


_BY_NAME = {
    "STAT": Priority.STAT,
    "HIGH": Priority.HIGH,
    "ROUTINE": Priority.ROUTINE,
    "MEDIUM": Priority.ROUTINE,
    "MED": Priority.ROUTINE,
    "LOW": Priority.LOW,
}
PRIORITY_ATTRIBUTES = ("RequestedProcedurePriority", "StudyPriorityID", "RequestAttributesSequence")


def most_urgent(priorities: Iterable[Priority | None]) -> Priority | None:
    """The most urgent one; None where there is none."""
    known = [priority for priority in priorities if priority is not None]
    return min(known, key=lambda priority: priority.rank, default=None)


def requested_priority(header: Dataset) -> Priority | None:
    """What an instance says: the most urgent of the attributes that are there; None where it says nothing.

    Requested Procedure Priority (0040,1003), in the data set or in an item of the Request Attributes Sequence
    (0040,0275), where modalities copy it to from the worklist; and the retired Study Priority ID (0032,000C).
    """
    values = [header.get("RequestedProcedurePriority"), header.get("StudyPriorityID")]
    values += [item.get("RequestedProcedurePriority") for item in header.get("RequestAttributesSequence") or ()]
    return most_urgent(_BY_NAME.get(str(value).strip().upper()) for value in values if value is not None)
