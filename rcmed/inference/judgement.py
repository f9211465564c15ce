"""From a decision to a Finding: where the region lies, what it measures, whether it can be what it is said to be."""

from __future__ import annotations

from collections.abc import Collection

from rcmed.findings import Finding, FindingStatus
from rcmed.image import Image
from rcmed.inference.decision import Decision
from rcmed.inference.plausibility import impossible_because, misplaced_because
from rcmed.measurements import find_boxes, measure
from rcmed.vocabulary import BodyRegion, Target


def judge(
    image: Image,
    target: Target,
    decision: Decision,
    regions: Collection[BodyRegion] | None,
    is_asserted: bool = False,
    are_seen: bool = False,
) -> Finding:
    """The finding of a target, undescribed.

    Args:
        image: what was looked at.
        target: what was looked for.
        decision: what the weights say of it, on the image's grid.
        regions: body regions that the image shows; None where nobody tells.
        are_seen: the regions are what the weights see, and no header told them.
        is_asserted: a user points at the target: it is there whatever anatomy allows.
    """
    if decision.status is FindingStatus.ABSENT:
        return Finding(target.name, target, FindingStatus.ABSENT, decision.presence)
    implausible = None if is_asserted else misplaced_because(target, regions, are_seen)
    is_marked = implausible is None and bool(decision.mask.any())
    measurements = measure(decision.mask, image) if is_marked else ()
    if not is_asserted:
        implausible = implausible or impossible_because(target, measurements)
    if implausible is not None:
        reason = f"implausible: {implausible}"
        return Finding(target.name, target, FindingStatus.IMPLAUSIBLE, decision.presence, reason=reason)
    if not is_marked:
        return Finding(target.name, target, decision.status, decision.presence)
    return Finding(
        prompt=target.name,
        target=target,
        status=decision.status,
        presence=decision.presence,
        mask=decision.mask,
        boxes=find_boxes(decision.mask),
        measurements=measurements,
    )
