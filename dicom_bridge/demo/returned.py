"""What came back, as a reader who knows only DICOM sees it: masks of the SEG, and whether SEG and SR hold together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage, ComprehensiveSRStorage, EnhancedSRStorage, SegmentationStorage

from rcmed.errors import GridMismatchError
from rcmed.image import Image

REPORT_CLASSES = (Comprehensive3DSRStorage, ComprehensiveSRStorage, EnhancedSRStorage)
TRACKING_UID = ("112040", "DCM")


@dataclass(frozen=True, eq=False)
class ReturnedSegment:
    """One segment of a SEG, brought onto the image it was made from.

    Attributes:
        label: Segment Label (0062,0005).
        tracking_uid: (0062,0021), the same as in the SR.
        mask: bool (slice, row, column) on the image's grid.
    """

    label: str
    tracking_uid: str
    mask: NDArray[np.bool_]


def is_report(instance: Dataset) -> bool:
    """Whether it is an SR."""
    return instance.SOPClassUID in REPORT_CLASSES


def is_segmentation(instance: Dataset) -> bool:
    """Whether it is a SEG."""
    return bool(instance.SOPClassUID == SegmentationStorage)


def read_segments(segmentation: Dataset, image: Image) -> list[ReturnedSegment]:
    """Read the masks of a BINARY SEG onto its source image, slice by slice by reference.

    Raises:
        GridMismatchError: a frame refers to no slice of the image, or has another number of rows or columns.
    """
    slices = {(source.sop_instance_uid, source.frame_number or 1): n for n, source in enumerate(image.sources)}
    segments = {
        int(item.SegmentNumber): ReturnedSegment(
            str(item.SegmentLabel), str(item.TrackingUID), np.zeros(image.grid.shape, dtype=bool)
        )
        for item in segmentation.SegmentSequence
    }
    frames = segmentation.pixel_array
    if frames.ndim == 2:
        frames = frames[None]
    if frames.shape[1:] != image.grid.shape[1:]:
        raise GridMismatchError(f"SEG frames of {frames.shape[1:]} do not lie on slices of {image.grid.shape[1:]}")
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    for frame, group in zip(frames, segmentation.PerFrameFunctionalGroupsSequence, strict=True):
        number = _group(group, shared, "SegmentIdentificationSequence").ReferencedSegmentNumber
        source = _group(group, shared, "DerivationImageSequence").SourceImageSequence[0]
        key = (str(source.ReferencedSOPInstanceUID), int(source.get("ReferencedFrameNumber") or 1))
        if key not in slices:
            raise GridMismatchError(f"a SEG frame refers to frame {key[1]} of {key[0]}, which is no slice of the image")
        segments[int(number)].mask[slices[key]] |= frame.astype(bool)
    return list(segments.values())


def find_problems(sent: Sequence[Dataset], results: Sequence[Dataset]) -> list[str]:
    """What does not hold between the instances sent and the SEGs and SRs that came back for them, a line each.

    Args:
        sent: the instances of one study; their headers suffice.
        results: what came back for that study.
    """
    problems = []
    known = {str(instance.SOPInstanceUID) for instance in (*sent, *results)}
    first = sent[0]
    segmented: set[str] = set()
    reported: set[str] = set()
    for result in results:
        name = f"{result.Modality} {result.SOPInstanceUID}"
        for keyword in ("StudyInstanceUID", "PatientID"):
            if str(result.get(keyword) or "") != str(first.get(keyword) or ""):
                problems.append(f"{name}: {keyword} is not that of the study")
        strangers = {uid for uid in _values(result, "ReferencedSOPInstanceUID") if uid not in known}
        if strangers:
            problems.append(f"{name}: refers to {len(strangers)} instances that were not sent: {min(strangers)}, ...")
        if result.get("ContentQualification") != "RESEARCH":
            problems.append(f"{name}: ContentQualification (0018,9004) is not RESEARCH")
        if is_segmentation(result):
            segmented |= {str(item.TrackingUID) for item in result.SegmentSequence}
            frames_of_reference = {str(one.get("FrameOfReferenceUID")) for one in sent}
            if result.get("FrameOfReferenceUID") and "None" not in frames_of_reference:
                if str(result.FrameOfReferenceUID) not in frames_of_reference:
                    problems.append(f"{name}: lies in another frame of reference than the study")
        elif is_report(result):
            reported |= set(_tracking_uids(result))
    if not any(is_report(result) for result in results):
        problems.append("no SR came back")
    if segmented - reported:
        problems.append(f"{len(segmented - reported)} segments of the SEG are not in the SR")
    return problems


def _group(frame: Dataset, shared: Dataset, keyword: str) -> Dataset:
    item: Dataset = (frame if keyword in frame else shared)[keyword].value[0]
    return item


def _values(instance: Dataset, keyword: str) -> Iterator[str]:
    """Every value of an attribute, at any depth."""
    for element in instance.iterall():
        if element.keyword == keyword:
            yield str(element.value)


def _tracking_uids(report: Dataset) -> Iterator[str]:
    for item in report.get("ContentSequence", []):
        name = item.get("ConceptNameCodeSequence")
        if name and (name[0].get("CodeValue"), name[0].get("CodingSchemeDesignator")) == TRACKING_UID:
            yield str(item.UID)
        yield from _tracking_uids(item)
