"""What the datastores need of an archive of DICOM instances, be it a folder or a DICOMweb server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydicom.dataset import Dataset

from dicom_bridge.series.headers.instance import text
from dicom_bridge.store.files.instance_files import UnsafeUidError, require_uid

# Modalities whose instances are slices of one volume; of all others each instance is a picture of its own.
STACKED = ("CT", "MR", "PT", "NM")


@dataclass(frozen=True)
class ArchivedSeries:
    """A series of images.

    Attributes:
        study_uid, series_uid: as in DICOM, validated.
        modality: Modality (0008,0060), "" where it does not say.
        description: Series Description (0008,103E).
        patient_id: (0010,0020).
        study_date: (0008,0020).
        count: instances in it; 0 where the archive does not say.
    """

    study_uid: str
    series_uid: str
    modality: str = ""
    description: str = ""
    patient_id: str = ""
    study_date: str = ""
    count: int = 0

    @property
    def holds_pictures(self) -> bool:
        """Whether each instance is an image of its own."""
        return self.count > 1 and self.modality not in STACKED


@dataclass(frozen=True)
class ArchivedSegmentation:
    """A SEG, by its header.

    Attributes:
        study_uid, series_uid, instance_uid: its own, validated.
        referenced: SOP Instance UIDs by Series Instance UID that it refers to; none are listed in some systems' SEGs.
        created: date and time as in DICOM, to sort by.
        manufacturer, description, creator: (0008,0070), (0008,103E), (0070,0084).
        algorithm_types: of its segments.
        names: Segment Labels in the order of the SEG.
    """

    study_uid: str
    series_uid: str
    instance_uid: str
    referenced: Mapping[str, frozenset[str]]
    created: str = ""
    manufacturer: str = ""
    description: str = ""
    creator: str = ""
    algorithm_types: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


class Archive(Protocol):
    """Images and SEGs; listings are fresh at each call."""

    name: str

    def series(self) -> list[ArchivedSeries]:
        """All series that hold images, in a stable order.

        Raises:
            PeerError: the archive can't be asked.
        """
        ...

    def segmentations(self) -> list[ArchivedSegmentation]:
        """All SEGs, whoever stored them.

        Raises:
            PeerError: the archive can't be asked.
        """
        ...

    def instances(self, series: ArchivedSeries) -> dict[str, str]:
        """SOP Instance UIDs of a series, sorted, each with a text that is another one when its file changed."""
        ...

    def fetch(self, series: ArchivedSeries, folder: Path) -> None:
        """Put the instances of a series into an empty folder, as `<SOP Instance UID>.dcm`."""
        ...

    def fetch_segmentation(self, segmentation: ArchivedSegmentation) -> Dataset:
        """A SEG, whole."""
        ...

    def store(self, path: Path) -> None:
        """Store an instance, and return when the archive has it.

        Raises:
            InputError: the archive looked at it and did not take it.
            PeerError: the archive is not reachable; try again later.
        """
        ...


def segmentation_entry(header: Dataset) -> ArchivedSegmentation | None:
    """The entry of a SEG by its header; None where a UID is missing or no UID."""
    try:
        study, series, instance = (
            require_uid(text(header, keyword), keyword)
            for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
        )
    except UnsafeUidError:
        return None
    segments = header.get("SegmentSequence") or []
    return ArchivedSegmentation(
        study,
        series,
        instance,
        referenced=_references(header),
        created="".join(text(header, keyword) for keyword in ("ContentDate", "ContentTime")),
        manufacturer=text(header, "Manufacturer"),
        description=text(header, "SeriesDescription"),
        creator=text(header, "ContentCreatorName").rstrip("^"),
        algorithm_types=tuple(text(segment, "SegmentAlgorithmType") for segment in segments),
        names=tuple(text(segment, "SegmentLabel") for segment in segments),
    )


def _references(header: Dataset) -> dict[str, frozenset[str]]:
    """Referenced instances by series (PS3.3 C.12.2), in this study and in others."""
    found: dict[str, frozenset[str]] = {}
    holders = [header, *(header.get("StudiesContainingOtherReferencedInstancesSequence") or [])]
    for holder in holders:
        for item in holder.get("ReferencedSeriesSequence") or []:
            instances = item.get("ReferencedInstanceSequence") or []
            found[text(item, "SeriesInstanceUID")] = frozenset(
                text(one, "ReferencedSOPInstanceUID") for one in instances
            )
    return found
