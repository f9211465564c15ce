"""SEGs of an archive as labels of its images: which image they belong to, and under which tag."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dicom_bridge.manufacturer import MANUFACTURER
from monailabel_app.datastores.dicom.archive import ArchivedSegmentation, ArchivedSeries
from monailabel_app.datastores.records import require_tag
from rcmed.errors import InputError

FINAL = "final"
"""MONAI Label's tag of what a person submitted."""
ORIGINAL = "original"
"""MONAI Label's tag of what the model drew."""
_SUBMITTED = "RCMed label: "


@dataclass(frozen=True)
class ArchivedImage:
    """What can be labelled: a series, or one instance of a series of pictures.

    Attributes:
        identifier: the SeriesInstanceUID, or for a picture `<SeriesInstanceUID>_<SOPInstanceUID>`.
        series: where it is.
        instance_uid: of the picture; None for a whole series.
    """

    identifier: str
    series: ArchivedSeries
    instance_uid: str | None = None


@dataclass(frozen=True)
class ArchivedLabel:
    """A SEG as a label of one image.

    Attributes:
        identifier: the SEG's SOPInstanceUID.
        image_id: of the image.
        tag: unique among the labels of the image.
        kind: the tag without the number that tells several of a kind apart.
        segmentation: the SEG.
    """

    identifier: str
    image_id: str
    tag: str
    kind: str
    segmentation: ArchivedSegmentation


def series_description(tag: str) -> str:
    """The Series Description of a submitted label: its tag survives in the archive."""
    return _SUBMITTED + tag


def tag_of(segmentation: ArchivedSegmentation) -> str:
    """The kind of label that a SEG is.

    What was submitted here keeps its tag; what the model drew (the gateway's SEGs too) is "original" and no ground
    truth; what another system stored is "final": somebody filed it with the study.
    """
    if segmentation.manufacturer != MANUFACTURER:
        return FINAL
    if segmentation.description.startswith(_SUBMITTED):
        try:
            return require_tag(segmentation.description.removeprefix(_SUBMITTED))
        except InputError:
            return FINAL
    return ORIGINAL


def labels_by_image(
    images: Iterable[ArchivedImage],
    segmentations: Sequence[ArchivedSegmentation],
    is_withdrawn: Callable[[str], bool] = lambda identifier: False,
) -> dict[str, list[ArchivedLabel]]:
    """The labels of each image, ours before those of other systems, newest first.

    Of our own only the newest of a tag counts: it replaces what was submitted before. Each SEG of another system is a
    label of its own; "final-2" is the second that would be "final".
    """
    by_series: dict[str, list[ArchivedSegmentation]] = {}
    newest_first = sorted(segmentations, key=lambda seg: (seg.created, seg.instance_uid), reverse=True)
    for segmentation in sorted(newest_first, key=lambda seg: seg.manufacturer != MANUFACTURER):
        for series_uid in segmentation.referenced:
            by_series.setdefault(series_uid, []).append(segmentation)
    return {
        image.identifier: _labels_of(image, by_series.get(image.series.series_uid, ()), is_withdrawn)
        for image in images
    }


def _labels_of(
    image: ArchivedImage, segmentations: Iterable[ArchivedSegmentation], is_withdrawn: Callable[[str], bool]
) -> list[ArchivedLabel]:
    found: dict[str, ArchivedLabel] = {}
    for segmentation in segmentations:
        referenced = segmentation.referenced[image.series.series_uid]
        if image.instance_uid is not None and referenced and image.instance_uid not in referenced:
            continue
        kind = tag_of(segmentation)
        is_ours = segmentation.manufacturer == MANUFACTURER
        if (is_ours and kind in found) or is_withdrawn(segmentation.instance_uid):
            continue
        tag, number = kind, 1
        while tag in found:
            number += 1
            tag = f"{kind}-{number}"
        found[tag] = ArchivedLabel(segmentation.instance_uid, image.identifier, tag, kind, segmentation)
    return list(found.values())


def image_facts(image: ArchivedImage) -> dict[str, Any]:
    """What DICOM says of an image, under the names that MONAI Label's clients know."""
    series = image.series
    return {
        "name": series.description or image.identifier,
        "SeriesInstanceUID": series.series_uid,
        "StudyInstanceUID": series.study_uid,
        "Modality": series.modality,
        "PatientID": series.patient_id or image.identifier,
        "StudyDate": series.study_date,
    }


def label_facts(label: ArchivedLabel) -> dict[str, Any]:
    """What the SEG of a label says of itself."""
    segmentation = label.segmentation
    return {
        "SeriesInstanceUID": segmentation.series_uid,
        "StudyInstanceUID": segmentation.study_uid,
        "SOPInstanceUID": segmentation.instance_uid,
        "Modality": "SEG",
        "manufacturer": segmentation.manufacturer,
        "user": segmentation.creator,
        "created": segmentation.created,
        "algorithm_types": list(segmentation.algorithm_types),
        "label_info": names_by_value(label),
    }


def names_by_value(label: ArchivedLabel) -> list[dict[str, object]]:
    """`label_info` as MONAI Label's clients know it: the names of the values 1, 2, ... of the label's file."""
    return [{"name": name, "idx": value} for value, name in enumerate(label.segmentation.names, start=1)]


def tags_in(labels: Mapping[str, Sequence[ArchivedLabel]]) -> dict[str, int]:
    """How many labels there are of each tag."""
    counts: dict[str, int] = {}
    for label in (label for several in labels.values() for label in several):
        counts[label.tag] = counts.get(label.tag, 0) + 1
    return counts
