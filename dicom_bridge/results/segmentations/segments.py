"""Findings as the segments of a SEG (PS3.3 C.8.20.4): names, codes, tracking, who drew them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from highdicom.color import CIELabColor
from highdicom.seg import SegmentDescription
from numpy.typing import NDArray

from dicom_bridge.results.codes import algorithm, concept, finding_name, long_string, tracking_id
from dicom_bridge.results.identifiers import ResultIdentifiers
from dicom_bridge.results.segmentations.authorship import Authorship
from rcmed.errors import InputError
from rcmed.findings import Findings, FindingStatus
from rcmed.packed_mask import PackedMask


def segmented_findings(findings: Findings) -> list[int]:
    """Numbers (from 0) of the findings that get a segment, in the order of the segments."""
    return [
        number
        for number, finding in enumerate(findings.findings)
        if finding.is_present and finding.target is not None and finding.region is not None and finding.region.any()
    ]


def describe_segment(
    findings: Findings, number: int, place: int, identifiers: ResultIdentifiers, authorship: Authorship
) -> SegmentDescription:
    """The segment of finding `number` (from 0), which is segment `place` (from 1) of the SEG.

    Raises:
        InputError: the finding has no target.
    """
    finding = findings.findings[number]
    target = finding.target
    if target is None:
        raise InputError(f"the finding for {finding.prompt!r} has a region but no target")
    segment = SegmentDescription(
        segment_number=place,
        segment_label=long_string(tracking_id(findings, number)),
        segmented_property_category=concept(target.category),
        segmented_property_type=concept(target.type),
        algorithm_type=authorship.algorithm_type,
        algorithm_identification=None if authorship.is_manual else algorithm(findings.model, finding.prompt),
        tracking_uid=identifiers.tracking_uid(number),
        tracking_id=tracking_id(findings, number),
        anatomic_regions=[concept(target.region)] if target.region is not None else None,
        display_color=CIELabColor.from_rgb(*target.colour),
    )
    if target.laterality is not None:
        # Of the organ itself, or of the region that holds the lesion (PS3.3 C.8.20.2, Tables 10-8 and 8.8).
        if target.region is not None:
            segment.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = [concept(target.laterality)]
        else:
            item = segment.SegmentedPropertyTypeCodeSequence[0]
            item.SegmentedPropertyTypeModifierCodeSequence = [concept(target.laterality)]
    if finding.status is FindingStatus.UNCERTAIN:
        presence = "" if finding.presence is None else f", presence {finding.presence:.2f}"
        segment.SegmentDescription = f"{finding_name(finding)}: uncertain{presence}"[:1024]
    return segment


def label_map(masks: Sequence[PackedMask], used: slice) -> NDArray[Any] | None:
    """The segments as a label map (slice, row, column) of the used slices; None where masks overlap."""
    labels = np.zeros((used.stop - used.start, *masks[0].shape[1:]), dtype=np.min_scalar_type(len(masks)))
    for place, packed in enumerate(masks, start=1):
        mask = packed.unpack(used.start, used.stop)
        if labels[mask].any():
            return None
        labels[mask] = place
    return labels
