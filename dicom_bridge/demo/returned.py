"""What came back, as a reader who knows only DICOM sees it: whether SEG and SR hold together with what was sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage, ComprehensiveSRStorage, EnhancedSRStorage

from dicom_bridge.results.segmentations.reading import is_segmentation

REPORT_CLASSES = (Comprehensive3DSRStorage, ComprehensiveSRStorage, EnhancedSRStorage)
TRACKING_UID = ("112040", "DCM")


def is_report(instance: Dataset) -> bool:
    """Whether it is an SR."""
    return instance.SOPClassUID in REPORT_CLASSES


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
