"""Which instances can share a grid: of one series, one patient, one study, one frame of reference, one size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dicom_bridge.series.concatenation import concatenation_of, in_order, not_whole, uncounted
from dicom_bridge.series.headers.instance import Instance, numbers, text, value
from dicom_bridge.series.tiles import is_thumbnail, is_tiled

_STORAGE = "1.2.840.10008.5.1.4.1.1."
# Classes whose single-frame instances are slices of a stack: CT, MR, PET, their enhanced and legacy converted forms.
_SLICE_CLASSES = tuple(_STORAGE + kind for kind in ("2", "2.1", "2.2", "4", "4.1", "4.4", "128", "130", "128.1"))
_SECONDARY_CAPTURE = _STORAGE + "7"


@dataclass(frozen=True)
class _Shared:
    """What all slices of a volume have in common.

    Attributes:
        name: for the reasons.
        read: of an instance, "" where absent.
        may_be_absent: a slice without it may go with those that have it, all the same one.
    """

    name: str
    read: Callable[[Instance], str]
    may_be_absent: bool = False


def _of(keyword: str) -> Callable[[Instance], str]:
    return lambda instance: text(instance.header, keyword)


def _birth_date(instance: Instance) -> str:
    """The digits of Patient's Birth Date, which older writers set apart by dots; "" where it is no date."""
    digits = text(instance.header, "PatientBirthDate").replace(".", "").replace("-", "")
    return digits if len(digits) == 8 and digits.isdigit() else ""


def _name_in_letters(instance: Instance) -> str:
    """The alphabetic group of the patient's name, without what writers add and drop (PS3.5 6.2.1)."""
    return str(value(instance.header, "PatientName") or "").partition("=")[0].rstrip("^ ").casefold()


def _name_that_tells(instance: Instance) -> str:
    """The name where nothing better tells who it is: it is spelled anew and corrected, unlike ID and birth date."""
    is_known = text(instance.header, "PatientID") and _birth_date(instance)
    return "" if is_known else _name_in_letters(instance)


def _size(instance: Instance) -> str:
    return f"{instance.rows} x {instance.columns}{' in colour' if instance.is_colour else ''}"


# Patients under one series UID come from bad de-identification and mixed-up archives; who has no Patient ID is not
# known to be the same one.
_SHARED = (
    _Shared("Study Instance UID (0020,000D)", _of("StudyInstanceUID")),
    _Shared("Patient ID (0010,0020)", _of("PatientID")),
    _Shared("Issuer of Patient ID (0010,0021)", _of("IssuerOfPatientID"), may_be_absent=True),
    _Shared("Patient's Birth Date (0010,0030)", _birth_date, may_be_absent=True),
    _Shared("Patient's Name (0010,0010)", _name_that_tells, may_be_absent=True),
    _Shared("Modality (0008,0060)", _of("Modality")),
    _Shared("Rows (0028,0010), Columns (0028,0011) or Photometric Interpretation (0028,0004)", _size),
)


@dataclass(frozen=True)
class InstanceGroup:
    """Instances that make one image, or are refused together.

    Attributes:
        instances: in the order given.
        is_stack: several slices that should make a volume.
        left_out: a reason where the group is no image to be looked at (localizers).
        refused: a reason where it can make none.
        notes: what part of its series it is, where others were split off, and what else is to be told of it.
    """

    instances: tuple[Instance, ...]
    is_stack: bool
    left_out: str | None = None
    refused: str | None = None
    notes: tuple[str, ...] = ()


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
    """Split instances by series, and slices of one series by what a volume has in common (`_SHARED`).

    Multi-frame instances and pictures (radiographs, photographs, captures) are images of their own, the parts of a
    concatenation one together. Localizers show where slices lie and are none, and neither is the thumbnail of a slide
    beside the slide.
    """
    groups: list[InstanceGroup] = []
    stacks: dict[str, list[Instance]] = {}
    localizers: dict[str, list[Instance]] = {}
    concatenations: dict[tuple[str, str], list[Instance]] = {}
    slides = {instance.uid("SeriesInstanceUID") for instance in instances if _is_slide(instance)}
    for instance in instances:
        series = instance.uid("SeriesInstanceUID")
        part_of = concatenation_of(instance)
        if part_of is not None:
            concatenations.setdefault(part_of, []).append(instance)
        elif is_thumbnail(instance):
            groups.append(_thumbnail(instance, is_beside_slide=series in slides))
        elif is_localizer(instance):
            localizers.setdefault(series, []).append(instance)
        elif instance.frames > 1 or not series or not is_slice(instance):
            groups.append(InstanceGroup((instance,), is_stack=False))
        else:
            stacks.setdefault(series, []).append(instance)
    for members in stacks.values():
        groups += _of_one_kind(members)
    for members in concatenations.values():
        parts = in_order(members)
        doubt = uncounted(parts)
        groups.append(InstanceGroup(parts, False, refused=not_whole(parts), notes=(doubt,) if doubt else ()))
    for members in localizers.values():
        reason = (
            f"{len(members)} localizer image(s) (Image Type (0008,0008) says LOCALIZER): they show where slices lie, "
            "and are neither a slice nor part of a volume"
        )
        groups.append(InstanceGroup(tuple(members), is_stack=len(members) > 1, left_out=reason))
    return groups


def _of_one_kind(members: Sequence[Instance]) -> list[InstanceGroup]:
    """The slices of a series, split by `_SHARED`, in the order of its values: that of the files does not matter."""
    columns = {shared.name: _values(shared, members) for shared in _SHARED}
    parts: dict[tuple[str, ...], list[Instance]] = {}
    for key, instance in zip(zip(*columns.values(), strict=True), members, strict=True):
        parts.setdefault(key, []).append(instance)
    differing = " and ".join(name for name, values in columns.items() if len(set(values)) > 1)
    groups = []
    for number, key in enumerate(sorted(parts), 1):
        found = parts[key]
        notes = []
        if differing:
            notes.append(
                f"its slices differ in {differing} and make no one volume; this is part {number} of {len(parts)}, "
                f"{len(found)} of {len(members)} slices"
            )
        if len({_name_in_letters(instance) for instance in found} - {""}) > 1:
            notes.append(
                "Patient's Name (0010,0010) differs between slices of one Patient ID (0010,0020) and birth date, which "
                "are believed"
            )
        groups.append(
            InstanceGroup(
                tuple(found),
                is_stack=len(found) > 1,
                refused=_without_one_frame_of_reference(found),
                notes=tuple(notes),
            )
        )
    return groups


def _without_one_frame_of_reference(slices: Sequence[Instance]) -> str | None:
    """Why slices can't be placed against each other (PS3.3 C.7.4.1); None where they can.

    Nothing is made of the parts: a series has one frame of reference, so some of these were rewritten, and nobody knows
    which slices belong together.
    """
    counts = Counter(instance.uid("FrameOfReferenceUID") for instance in slices)
    if len(counts) == 1:
        return None
    found = ", ".join(str(count) for _, count in counts.most_common(6))
    return (
        f"{len(counts)} values of Frame of Reference UID (0020,0052) in one series ({found} slices): positions in one "
        "say nothing of those in another; send each as a series of its own"
    )


def _values(shared: _Shared, members: Sequence[Instance]) -> list[str]:
    values = [shared.read(instance) for instance in members]
    given = set(values) - {""}
    return [given.copy().pop()] * len(values) if shared.may_be_absent and len(given) == 1 else values


def _thumbnail(instance: Instance, is_beside_slide: bool) -> InstanceGroup:
    what = "the thumbnail of a slide (Image Type (0008,0008) says THUMBNAIL)"
    if is_beside_slide:
        return InstanceGroup((instance,), is_stack=False, left_out=f"{what}, which is read itself")
    return InstanceGroup((instance,), is_stack=False, notes=(f"{what}; the slide itself is not there",))


def _is_slide(instance: Instance) -> bool:
    return is_tiled(instance) and "VOLUME" in instance.image_type


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
    """Whether Image Type says LOCALIZER (PS3.3 C.8.2.1.1.1, and C.8.16.1.3 for enhanced objects)."""
    return "LOCALIZER" in instance.image_type


def is_mosaic(instance: Instance) -> bool:
    """Whether one frame holds all slices as tiles (Siemens)."""
    return "MOSAIC" in instance.image_type
