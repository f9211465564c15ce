"""Concatenations: one multi-frame object that was stored in several instances (PS3.3 C.7.6.16.2.2.4)."""

from __future__ import annotations

from collections.abc import Sequence

from dicom_bridge.series.headers.instance import Instance, numbers, shown, text

# What the parts of one object have in common.
_SHARED = (
    ("StudyInstanceUID", "Study Instance UID (0020,000D)"),
    ("PatientID", "Patient ID (0010,0020)"),
    ("FrameOfReferenceUID", "Frame of Reference UID (0020,0052)"),
    ("SOPClassUID", "SOP Class UID (0008,0016)"),
    ("Rows", "Rows (0028,0010)"),
    ("Columns", "Columns (0028,0011)"),
    ("PhotometricInterpretation", "Photometric Interpretation (0028,0004)"),
    ("TotalPixelMatrixRows", "Total Pixel Matrix Rows (0048,0007)"),
    ("TotalPixelMatrixColumns", "Total Pixel Matrix Columns (0048,0006)"),
)


def concatenation_of(instance: Instance) -> tuple[str, str] | None:
    """Series and Concatenation UID (0020,9161) of a part of a larger object; None of a whole one."""
    uid = instance.uid("ConcatenationUID")
    return (instance.uid("SeriesInstanceUID"), uid) if uid else None


def in_order(parts: Sequence[Instance]) -> tuple[Instance, ...]:
    """Parts of one concatenation by In-concatenation Number (0020,9162), those without one last."""
    return tuple(sorted(parts, key=lambda part: (_number(part) or len(parts) + 1, part.uid("SOPInstanceUID"))))


def not_whole(parts: Sequence[Instance]) -> str | None:
    """Why the parts of a concatenation, in order, are not all there or not of one object; None where they are.

    The reason names Concatenation UID (0020,9161).
    """
    name = f"Concatenation UID (0020,9161) {shown(parts[0].uid('ConcatenationUID'))}"
    for keyword, called in _SHARED:
        if len({text(part.header, keyword) for part in parts}) > 1:
            return f"{name}: its {len(parts)} parts differ in {called}; they are no one object"
    totals = {_whole_number(part, "InConcatenationTotalNumber") for part in parts} - {None}
    if len(totals) > 1:
        return f"{name}: its parts differ in In-concatenation Total Number (0020,9163)"
    found = [_number(part) for part in parts]
    wanted = next(iter(totals), None) or len(parts)
    if found != list(range(1, wanted + 1)):
        listed = ", ".join("none" if number is None else str(number) for number in found[:8])
        return (
            f"{name}: of {max(wanted, len(parts))} parts of one object there are those with In-concatenation Number "
            f"(0020,9162) {listed}; send each once"
        )
    begin = 0
    for part in parts:
        offset = _whole_number(part, "ConcatenationFrameOffsetNumber")
        if offset is not None and offset != begin:
            return (
                f"{name}: {part.path.name} begins behind frame {offset} (0020,9228), where {begin} frames are before "
                "it; send all parts"
            )
        begin += part.frames
    return None


def uncounted(parts: Sequence[Instance]) -> str | None:
    """A line where nothing tells how many parts a concatenation should have; None where something does."""
    if any(_whole_number(part, "InConcatenationTotalNumber") is not None for part in parts):
        return None
    return f"In-concatenation Total Number (0020,9163) is missing; {len(parts)} parts are taken for all"


def _number(part: Instance) -> int | None:
    return _whole_number(part, "InConcatenationNumber")


def _whole_number(part: Instance, keyword: str) -> int | None:
    found = numbers(part.header, keyword, 1)
    return int(found[0]) if found and found[0] == int(found[0]) else None
