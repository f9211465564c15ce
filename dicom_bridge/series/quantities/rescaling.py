"""What stored numbers mean: the modality LUT of a frame (PS3.3 C.11.1), and whether it makes HU of them.

A CT must tell it in every slice (PS3.3 C.8.2.1, type 1). Where it does not, its numbers are what the scanner stored,
usually 1024 above HU, and nothing can be measured in them; slices that tell it and slices that don't share no scale.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom import Dataset

from dicom_bridge.series.headers.instance import Instance, functional_group, numbers, shown, text, value
from rcmed.modality import Modality

_NAMES = {"RescaleIntercept": "Rescale Intercept (0028,1052)", "RescaleSlope": "Rescale Slope (0028,1053)"}


@dataclass(frozen=True)
class AgreeingSlices:
    """Slices whose values are on one scale.

    Attributes:
        kept: in the order given.
        refused: the others.
        fault: why the values of those that are kept are in no known unit; "" where it is known.
        others: why the others are refused, "" where none is.
    """

    kept: tuple[Instance, ...]
    refused: tuple[Instance, ...] = ()
    fault: str = ""
    others: str = ""


def rescale(header: Dataset, index: int) -> tuple[float, float]:
    """Slope and intercept of a frame (PS3.3 C.11.1, and C.7.6.16.2.9 for enhanced objects); 1 and 0 where absent."""
    for item in (functional_group(header, index, "PixelValueTransformationSequence"), header):
        slope, intercept = numbers(item, "RescaleSlope", 1), numbers(item, "RescaleIntercept", 1)
        if slope is not None and slope[0] != 0:
            return slope[0], intercept[0] if intercept else 0.0
    return 1.0, 0.0


def agreeing_slices(instances: Sequence[Instance], modality: Modality) -> AgreeingSlices:
    """Of the instances of one image those that share a scale: the ones that tell it, else the most frequent fault.

    Args:
        instances: at least one, grey.
        modality: CT needs HU, PET a rescale; MR and nuclear medicine may have none, but all or none of their slices.
    """
    faults = [_fault_of(instance, modality) for instance in instances]
    needed = modality is Modality.CT or text(instances[0].header, "Modality") == "PT"
    if not needed and _without_rescale_is_the_same(instances):
        return AgreeingSlices(tuple(instances))
    chosen = "" if "" in faults else Counter(faults).most_common(1)[0][0]
    kept = tuple(instance for instance, fault in zip(instances, faults, strict=True) if fault == chosen)
    refused = tuple(instance for instance, fault in zip(instances, faults, strict=True) if fault != chosen)
    others = " or ".join(sorted(set(faults) - {chosen}))
    if not needed:
        return AgreeingSlices(kept, refused, others=others)
    # Slices that lost their rescale tell that someone changed the series; the others are no longer believed either.
    fault = chosen or (f"{others} in other slices of the series" if others else "")
    return AgreeingSlices(kept, refused, fault, others)


def _fault_of(instance: Instance, modality: Modality) -> str:
    """Why the values of an instance are in no known unit, the first of its frames that has a fault; "" for none."""
    read = _hounsfield_fault if modality is Modality.CT else _rescale_fault
    return next((fault for index in range(instance.frames) if (fault := read(instance.header, index))), "")


def _rescale_fault(header: Dataset, index: int) -> str:
    if value(header, "ModalityLUTSequence"):
        return ""
    transformation = _transformation(header, index)
    found = {keyword: numbers(transformation, keyword, 1) for keyword in _NAMES}
    missing = [name for keyword, name in _NAMES.items() if found[keyword] is None]
    if missing:
        return f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing or no number"
    return "Rescale Slope (0028,1053) is 0" if found["RescaleSlope"] == (0.0,) else ""


def _hounsfield_fault(header: Dataset, index: int) -> str:
    table = value(header, "ModalityLUTSequence")
    if table:
        kind = text(table[0], "ModalityLUTType")
        return "" if kind == "HU" else f"Modality LUT Type (0028,3004) is {shown(kind) or 'missing'}, not HU"
    fault = _rescale_fault(header, index)
    if fault:
        return fault
    kind = text(_transformation(header, index), "RescaleType")
    if kind not in ("", "HU"):
        return f"Rescale Type (0028,1054) is {shown(kind)}, not HU"
    slope, intercept = rescale(header, index)
    if numbers(header, "PixelRepresentation", 1) == (0.0,) and slope > 0 and intercept >= 0:
        return f"Rescale Intercept (0028,1052) is {intercept:g} with unsigned pixels: nothing below 0 HU can be stored"
    return ""


def _transformation(header: Dataset, index: int) -> Dataset:
    """What holds the rescale of a frame: its functional group where that tells any of it, else the top level."""
    group = functional_group(header, index, "PixelValueTransformationSequence")
    is_given = group is not None and any(keyword in group for keyword in _NAMES)
    return group if is_given else header


def _without_rescale_is_the_same(instances: Sequence[Instance]) -> bool:
    """Whether every rescale that is told changes nothing, so that a slice without one is on the same scale."""
    rescales = {
        rescale(instance.header, index)
        for instance in instances
        for index in range(instance.frames)
        if not _rescale_fault(instance.header, index)
    }
    return rescales <= {(1.0, 0.0)}
