"""The UIDs of a result, derived from the job that makes it, so that a retry repeats a result and never doubles it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pydicom.valuerep import DA, DT, TM

from dicom_bridge.results.codes import long_string
from dicom_bridge.series.headers.instance import text

# Any fixed UUID will do as the name space (RFC 4122, 4.3); changing it would change the UIDs of every result.
_NAME_SPACE = uuid.UUID("5b2d4f0e-6c1a-4b57-9f2e-8d3c7a1e90b4")

_LONGEST_LO = 64
_NAMES = ("SeriesNumber", "SeriesDescription", "ProtocolName")


def derive_uid(*parts: str) -> UID:
    """A UID under 2.25 from a UUID version 5 of `parts` (DICOM PS3.5 B.2); the same parts give the same UID."""
    return UID(f"2.25.{uuid.uuid5(_NAME_SPACE, chr(31).join(parts)).int}")


def series_name(header: Dataset) -> str:
    """What people know a series by: its Series Number (0020,0011), and its Series Description (0008,103E) or, where it
    has none, its Protocol Name (0018,1030); "" where it has nothing of it.
    """
    number, description, protocol = (text(header, name) for name in _NAMES)
    return " ".join(word for word in (number, description or protocol) if word)


@dataclass(frozen=True)
class ResultIdentifiers:
    """What identifies the results of one job.

    Attributes:
        job_id: whatever identifies the job; the same text gives the same UIDs.
        segmentation_series_uid, segmentation_uid: of the SEG.
        report_series_uid, report_uid: of the SR.
        created: content date and time of both; None: the time at which they are built.
        series_number: of the SEG; the SR gets the next one.
        route: by which the series was asked; "": by none.
        source: what people know the source series by; "": nothing is known.
    """

    job_id: str
    segmentation_series_uid: UID
    segmentation_uid: UID
    report_series_uid: UID
    report_uid: UID
    created: datetime | None = None
    series_number: int = 9001
    route: str = ""
    source: str = ""

    @classmethod
    def derive(
        cls, job_id: str, created: datetime | None = None, series_number: int = 9001, route: str = ""
    ) -> ResultIdentifiers:
        """The identifiers of the job `job_id`.

        Raises:
            ValueError: `job_id` is empty; all jobs would then share their UIDs.
        """
        if not job_id:
            raise ValueError("a result needs a job id: its UIDs are derived from it")
        return cls(
            job_id=job_id,
            segmentation_series_uid=derive_uid(job_id, "segmentation series"),
            segmentation_uid=derive_uid(job_id, "segmentation"),
            report_series_uid=derive_uid(job_id, "report series"),
            report_uid=derive_uid(job_id, "report"),
            created=created,
            series_number=series_number,
            route=route,
        )

    def series_description(self, kind: str) -> str:
        """Series Description (0008,103E) of a result: what it is, by which route, of which series.

        An LO has 64 characters: the route is cut first, but keeps half of the room, so that neither of them goes.
        """
        room = _LONGEST_LO - len(kind) - len(": ")
        route, source = self.route.strip(), self.source
        if route and source:
            room -= len(", ")
            route = route[: max(room // 2, room - len(source))].rstrip()
        names = ", ".join(name for name in (route, source) if name)
        return long_string(f"{kind}: {names}" if names else kind)

    def tracking_uid(self, finding_number: int) -> UID:
        """The tracking UID of a finding, counted from 0 in the order of the findings; the same in SEG and SR."""
        return derive_uid(self.job_id, "tracking", str(finding_number))

    def series_uid_of(self, kind: str) -> UID:
        """The Series Instance UID of the results of another kind ("capture", "contours", ...)."""
        return derive_uid(self.job_id, f"{kind} series")

    def uid_of(self, kind: str, number: int = 1) -> UID:
        """The SOP Instance UID of a result of another kind, counted from 1."""
        return derive_uid(self.job_id, kind, str(number))

    def date(self, dataset: Dataset) -> None:
        """Date everything that a result says of its making by `created`; without it the clock's time stays."""
        if self.created is None:
            return
        dataset.InstanceCreationDate = DA(self.created.date())
        dataset.InstanceCreationTime = TM(self.created.time())
        # highdicom lists itself last, after the equipment of the source, whose date is its own.
        for equipment in dataset.get("ContributingEquipmentSequence", [])[-1:]:
            equipment.ContributionDateTime = DT(self.created)
