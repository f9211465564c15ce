"""Several volumes in one series or object (time points, b-values, echoes, kinds of image): which slice is of which.

Slices are told apart by what the header says differs, never by the order of arrival: one attribute, or two together,
must give parts that each hold every position exactly once. Where none does, the series stays whole and is refused.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_bridge.series.geometry import ORIENTATION_TOLERANCE, SAME_POSITION_MM, FramePlane
from dicom_bridge.series.instance import Instance, functional_group, numbers, shown, text, value

Frame = tuple[Instance, int]
"""An instance and the index of its frame, from 0."""
_Value = tuple[float | str, ...]
_Key = tuple[_Value, ...]

MAX_VOLUMES = 32
"""Most volumes that a series is split into; a longer time series is no set of volumes to be read one by one."""

# Keyword, and for frames of an enhanced object the functional group and the keyword in it (PS3.3 C.7.6.16.2,
# C.8.13.5). The first that tells the volumes apart is taken.
_NUMBERS = (
    ("TemporalPositionIdentifier", "FrameContentSequence", "TemporalPositionIndex"),
    ("TemporalPositionIndex", "FrameContentSequence", "TemporalPositionIndex"),
    ("DiffusionBValue", "MRDiffusionSequence", "DiffusionBValue"),
    ("EchoTime", "MREchoSequence", "EffectiveEchoTime"),
    ("InversionTime", "MRModifierSequence", "InversionTimes"),
    ("TriggerTime", "CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),
    ("AcquisitionNumber", "FrameContentSequence", "FrameAcquisitionNumber"),
)


@dataclass(frozen=True)
class Part:
    """The slices of one volume.

    Attributes:
        members: indices of the planes, in the order given.
        reason: what this part is, "" for the only one.
    """

    members: tuple[int, ...]
    reason: str = ""


def split_volumes(planes: Sequence[FramePlane], frames: Sequence[Frame]) -> list[Part]:
    """Split planes that lie at repeated positions into volumes.

    Args:
        planes: of all slices.
        frames: what each plane belongs to.

    Returns:
        The parts in the order of the values that tell them apart, the same for every order of the planes. One part
        with all planes where no position is repeated, where nothing tells the repeats apart, and where they are more
        than `MAX_VOLUMES`.
    """
    whole = [Part(tuple(range(len(planes))))]
    places = positions_of(planes)
    if places is None:
        return whole
    counts = np.bincount(places)
    if len(counts) < 2 or not 1 < counts.max() <= MAX_VOLUMES or counts.min() != counts.max():
        return whole
    known = {name: [read(*frame) for frame in frames] for name, read in _attributes().items()}
    differing = [name for name, values in known.items() if len(set(values)) > 1]
    for names in itertools.chain(itertools.combinations(differing, 1), itertools.combinations(differing, 2)):
        keys = list(zip(*(known[name] for name in names), strict=True))
        parts = _parts(keys, places)
        if parts is None:
            continue
        return [
            Part(
                members,
                f"{len(parts)} volumes in one series, split by {' and '.join(names)}; this is part {number}: "
                + ", ".join(f"{name} {_shown(found)}" for name, found in zip(names, key, strict=True)),
            )
            for number, (key, members) in enumerate(parts, 1)
        ]
    return whole


def has_repeats(planes: Sequence[FramePlane]) -> bool:
    """Whether some, but not all, planes lie at one position."""
    places = positions_of(planes)
    return places is not None and len(np.unique(places)) not in (1, len(places))


def without_copies(
    planes: Sequence[FramePlane], frames: Sequence[Frame], values: Sequence[NDArray[Any]]
) -> tuple[tuple[int, ...], str]:
    """The planes without those that repeat another's position and pixels exactly, and a line that says so.

    Of copies the one with the first SOP Instance UID and frame stays. Where any two at one position differ, nothing
    is left out: which of them is right can't be known.
    """
    everything, places = tuple(range(len(planes))), positions_of(planes)
    assert places is not None
    by_name = sorted(everything, key=lambda index: (frames[index][0].uid("SOPInstanceUID"), frames[index][1]))
    kept: dict[int, int] = {}
    for index in by_name:
        other = kept.setdefault(int(places[index]), index)
        if not np.array_equal(values[index], values[other]):
            return everything, ""
    copies = len(planes) - len(kept)
    return tuple(sorted(kept.values())), f"{copies} slices repeat another's position and pixels; one of each is kept"


def positions_of(planes: Sequence[FramePlane]) -> NDArray[np.intp] | None:
    """For each plane the number of its position along the normal, from 0; None where planes are not parallel."""
    if not all(plane.in_patient for plane in planes):
        return None
    first = planes[0]
    assert first.orientation is not None
    for plane in planes:
        if np.abs(np.asarray(plane.orientation) - first.orientation).max() > ORIENTATION_TOLERANCE:
            return None
    heights = np.array([plane.position for plane in planes]) @ first.normal
    order = np.argsort(heights, kind="stable")
    places = np.empty(len(planes), dtype=np.intp)
    places[order] = np.concatenate([[0], np.cumsum(np.diff(heights[order]) > SAME_POSITION_MM)])
    return places


def _parts(
    keys: list[tuple[_Value, ...]], places: NDArray[np.intp]
) -> list[tuple[tuple[_Value, ...], tuple[int, ...]]] | None:
    members: dict[tuple[_Value, ...], list[int]] = {}
    for index, key in enumerate(keys):
        members.setdefault(key, []).append(index)
    wanted = list(range(int(places.max()) + 1))
    if any(sorted(places[found].tolist()) != wanted for found in members.values()):
        return None
    # Numbers before words, an absent value first.
    ordered = sorted(members, key=lambda key: [[(isinstance(v, str), v) for v in found] for found in key])
    return [(key, tuple(members[key])) for key in ordered]


def _attributes() -> dict[str, Callable[[Instance, int], _Value]]:
    readers: dict[str, Callable[[Instance, int], _Value]] = {
        keyword: partial(_number, keyword, group, inner) for keyword, group, inner in _NUMBERS
    }
    readers["DiffusionGradientOrientation"] = _gradient
    readers["ImageType"] = _image_type
    return readers


def _number(keyword: str, group: str, inner: str, instance: Instance, frame: int) -> _Value:
    in_group = numbers(functional_group(instance.header, frame, group), inner)
    return in_group or numbers(instance.header, keyword) or ()


def _gradient(instance: Instance, frame: int) -> _Value:
    diffusion = functional_group(instance.header, frame, "MRDiffusionSequence")
    direction = value(diffusion, "DiffusionGradientDirectionSequence")
    item = direction[0] if direction else None
    return (
        numbers(item, "DiffusionGradientOrientation") or numbers(instance.header, "DiffusionGradientOrientation") or ()
    )


def _image_type(instance: Instance, frame: int) -> _Value:
    kind = functional_group(instance.header, frame, "MRImageFrameTypeSequence")
    return (text(kind, "FrameType") or text(instance.header, "ImageType"),)


def _shown(found: _Value) -> str:
    return "\\".join(shown(part) if isinstance(part, str) else f"{part:g}" for part in found) or "absent"
