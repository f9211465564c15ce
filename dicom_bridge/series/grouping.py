"""Which instances can share a grid."""

from __future__ import annotations

from dataclasses import dataclass

from dicom_bridge.series.instance import Instance, numbers, text

_STORAGE = "1.2.840.10008.5.1.4.1.1."
# Classes whose single-frame instances are slices of a stack: CT, MR, PET, their enhanced and legacy converted forms.
_SLICE_CLASSES = tuple(_STORAGE + kind for kind in ("2", "2.1", "2.2", "4", "4.1", "4.4", "128", "130", "128.1"))
_SECONDARY_CAPTURE = _STORAGE + "7"


@dataclass(frozen=True)
class InstanceGroup:
    """Instances that make one image, or are refused together.

    Attributes:
        instances: in the order given.
        is_stack: several slices that should make a volume.
        left_out: a reason where the group is no part of the volume (localizers beside a stack).
    """

    instances: tuple[Instance, ...]
    is_stack: bool
    left_out: str | None = None


def without_duplicates(instances: list[Instance]) -> tuple[list[Instance], list[Instance]]:
    """Instances with each SOP Instance UID once, the first of them, and those that came again."""
    seen: set[str] = set()
    kept: list[Instance] = []
    again: list[Instance] = []
    for instance in instances:
        uid = instance.uid("SOPInstanceUID")
        (again if uid and uid in seen else kept).append(instance)
        seen.add(uid)
    return kept, again


def group_instances(instances: list[Instance]) -> list[InstanceGroup]:
    """Split instances by series, kind, localizer and matrix size.

    Multi-frame instances and pictures (radiographs, photographs, captures) are images of their own.
    """
    groups: list[InstanceGroup] = []
    stacks: dict[tuple[object, ...], list[Instance]] = {}
    for instance in instances:
        series = instance.uid("SeriesInstanceUID")
        if instance.frames > 1 or not series or not is_slice(instance):
            groups.append(InstanceGroup((instance,), is_stack=False))
        else:
            size = (instance.rows, instance.columns, instance.is_colour)
            stacks.setdefault((series, is_localizer(instance), *size), []).append(instance)
    with_slices = {key[0] for key in stacks if not key[1]}
    for key, members in stacks.items():
        reason = None
        if key[1] and (key[0] in with_slices or len(members) > 1):
            reason = f"{len(members)} localizer image(s) (ImageType LOCALIZER), no part of a volume"
        groups.append(InstanceGroup(tuple(members), is_stack=len(members) > 1, left_out=reason))
    return groups


def is_slice(instance: Instance) -> bool:
    """Whether a single-frame instance is a slice of a cross-sectional series."""
    sop_class = instance.uid("SOPClassUID")
    if sop_class in _SLICE_CLASSES:
        return True
    if sop_class.startswith(_SECONDARY_CAPTURE):
        return False
    placed = numbers(instance.header, "ImagePositionPatient", 3) is not None
    return placed and text(instance.header, "Modality") in ("CT", "MR", "PT")


def is_localizer(instance: Instance) -> bool:
    """Whether Image Type says LOCALIZER (PS3.3 C.8.2.1.1.1)."""
    return "LOCALIZER" in instance.image_type


def is_mosaic(instance: Instance) -> bool:
    """Whether one frame holds all slices as tiles (Siemens)."""
    return "MOSAIC" in instance.image_type
