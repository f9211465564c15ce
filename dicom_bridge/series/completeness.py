"""Signs that an image is only a part of its series: files beside its own that can't be read, numbers that headers tell.

A slice that is missing within a stack shows as a gap (`geometry`); one that is missing at an end shows only here.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from dicom_bridge.series.headers.instance import Instance, numbers
from rcmed.image import Image
from rcmed.modality import Modality

# What names of DICOM files end with, where they end with anything.
_SUFFIXES = (".dcm", ".dicom", ".dic", ".ima")
_SECTIONS = (Modality.CT, Modality.MR, Modality.PET)


def announced_shortfall(instances: Sequence[Instance]) -> str:
    """Why the slices of a volume are fewer than their headers tell; "" where they are not.

    Args:
        instances: one for each slice.
    """
    counts = {
        "Number of Slices (0054,0081)": "NumberOfSlices",
        "Number of Series Related Instances (0020,1209)": "NumberOfSeriesRelatedInstances",
    }
    for name, keyword in counts.items():
        found = {numbers(instance.header, keyword, 1) for instance in instances}
        count = found.pop() if len(found) == 1 else None
        if count is not None and count[0] > len(instances) and all(each.frames == 1 for each in instances):
            return (
                f"incomplete: {len(instances)} slices are there where {name} says {count[0]:g}; send the whole series"
            )
    return ""


def is_like_a_slice(path: Path, files: Collection[Path]) -> bool:
    """Whether a file that is no DICOM stands where a slice would: named like one, or empty, beside others.

    Args:
        path: the file.
        files: those that are slices.
    """
    suffix = path.suffix.lower()
    beside = {file.suffix.lower() for file in files if file.parent == path.parent}
    if suffix in _SUFFIXES or suffix in beside:
        return True
    numbered = suffix[1:].isdigit() and any(other[1:].isdigit() for other in beside)
    try:
        return numbered or (bool(beside) and path.stat().st_size == 0)
    except OSError:
        return False


def with_unread_neighbours(image: Image, unread: Sequence[Path]) -> Image:
    """An image of slices with a line about files beside its own that can't be read: its series may lack them.

    Args:
        image: any; photographs, radiographs and what is no slice stay as they are.
        unread: the files.
    """
    if image.modality not in _SECTIONS or not image.sources:
        return image
    folders = {file.parent for file in image.files}
    missing = [path for path in unread if path.parent in folders]
    if not missing:
        return image
    first = min(missing)
    line = f"{first}: {len(missing)} file(s) beside the slices can't be read; the series is incomplete without them"
    return replace(image, warnings=(*image.warnings, line))
