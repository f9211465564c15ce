"""Several volumes in one series or object (time points, b-values, echoes, kernels, stacks): which slice is of which.

Slices are told apart by what the header says differs, never by the order of arrival. Where positions are repeated, one
attribute, or two together, must give parts that each hold every position exactly once; where none does, the series
stays whole and is refused. Where they are not, values that alternate along the stack tell that reconstructions or
acquisitions are interleaved, and each becomes a volume of its own.
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
from dicom_bridge.series.headers.instance import Instance, functional_group, numbers, shown, text, value

Frame = tuple[Instance, int]
"""An instance and the index of its frame, from 0."""
_Value = tuple[float | str, ...]
_Key = tuple[_Value, ...]
_Read = Callable[[Instance, int], _Value]

MAX_VOLUMES = 32
"""Most volumes that a series is split into; a longer time series is no set of volumes to be read one by one."""

# Keyword, and for frames of an enhanced object the functional group and the keyword in it (PS3.3 C.7.6.16.2,
# C.8.13.5, C.8.15.3). The first that tells the volumes apart is taken.
_NUMBERS = (
    ("TemporalPositionIdentifier", "FrameContentSequence", "TemporalPositionIndex"),
    ("TemporalPositionIndex", "FrameContentSequence", "TemporalPositionIndex"),
    ("DiffusionBValue", "MRDiffusionSequence", "DiffusionBValue"),
    ("EchoTime", "MREchoSequence", "EffectiveEchoTime"),
    ("InversionTime", "MRModifierSequence", "InversionTimes"),
    ("TriggerTime", "CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),
    ("AcquisitionNumber", "FrameContentSequence", "FrameAcquisitionNumber"),
    ("NominalPercentageOfCardiacPhase", "CardiacSynchronizationSequence", "NominalPercentageOfCardiacPhase"),
    ("KVP", "CTXRayDetailsSequence", "KVP"),
    ("SliceThickness", "PixelMeasuresSequence", "SliceThickness"),
    ("FrameReferenceTime", "", ""),
    ("SeriesNumber", "", ""),
)
_WORDS = (
    ("ConvolutionKernel", "CTReconstructionSequence", "ConvolutionKernel"),
    ("ContrastBolusAgent", "", ""),
)
FRAME_TYPES = ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence", "PETFrameTypeSequence")
"""Functional groups that hold the Frame Type (0008,9007) of an enhanced object."""
# What is one and the same in a reconstruction. Times and counters that may run from slice to slice are none of these.
_OF_A_RECONSTRUCTION = (
    *("ConvolutionKernel", "KVP", "EchoTime", "DiffusionBValue", "TemporalPositionIdentifier", "TemporalPositionIndex"),
    *("NominalPercentageOfCardiacPhase", "ContrastBolusAgent", "SliceThickness", "SeriesNumber", "ImageType"),
    *("AcquisitionNumber", "AcquisitionTime"),
)
# By these the slabs of one scan differ, and nothing need be said of it.
_OF_A_SLAB = ("AcquisitionNumber", "AcquisitionTime")


@dataclass(frozen=True)
class Part:
    """The slices of one volume.

    Attributes:
        members: indices of the planes, in the order given.
        reason: what this part is, "" for the only one.
        changes: keywords of what should be the same in all of its slices and is not (a kernel that changes from slab
            to slab).
    """

    members: tuple[int, ...]
    reason: str = ""
    changes: tuple[str, ...] = ()


def split_stacks(frames: Sequence[Frame]) -> list[Part]:
    """Split the frames of an enhanced object by Stack ID (PS3.3 C.7.6.16.2.2): stacks lie apart, and are no volume.

    Returns:
        The parts in the order of the identifiers; one with all frames where they have one, or each its own.
    """
    stacks: dict[str, list[int]] = {}
    for index, (instance, frame) in enumerate(frames):
        content = functional_group(instance.header, frame, "FrameContentSequence")
        stacks.setdefault(text(content, "StackID"), []).append(index)
    if len(stacks) in (1, len(frames)):
        return [Part(tuple(range(len(frames))))]
    return [
        Part(tuple(stacks[name]), f"{len(stacks)} stacks in one object; this is Stack ID (0020,9056) {shown(name)}")
        for name in sorted(stacks)
    ]


def split_volumes(planes: Sequence[FramePlane], frames: Sequence[Frame]) -> list[Part]:
    """Split planes into volumes that lie at the same positions, or between each other.

    Args:
        planes: of all slices.
        frames: what each plane belongs to.

    Returns:
        The parts in the order of the values that tell them apart, the same for every order of the planes. One part
        with all planes where no position is repeated and nothing is interleaved, where nothing tells repeats apart,
        and where these are more than `MAX_VOLUMES`. Interleaved parts may be irregular, or more than that.
    """
    whole = [Part(tuple(range(len(planes))))]
    places = positions_of(planes)
    if places is None:
        return whole
    known = _Known(frames)
    names = _names_of_repeats(known, places)
    if names is None:
        return whole
    while added := _interleaved(known, known.parts(names), places):
        names = (*names, added)
    if not names:
        return [Part(whole[0].members, changes=known.changes(whole[0].members))]
    parts = known.parts(names)
    return [
        Part(
            members,
            f"{len(parts)} volumes in one series, split by {' and '.join(names)}; this is part {number}: "
            + ", ".join(f"{name} {_shown(found)}" for name, found in zip(names, key, strict=True)),
            known.changes(members),
        )
        for number, (key, members) in enumerate(parts, 1)
    ]


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


class _Known:
    """What the header says of each frame, read when it is asked for."""

    def __init__(self, frames: Sequence[Frame]) -> None:
        self._frames = frames
        self._values: dict[str, list[_Value]] = {}

    def __getitem__(self, name: str) -> list[_Value]:
        if name not in self._values:
            read = _ATTRIBUTES[name]
            self._values[name] = [read(*frame) for frame in self._frames]
        return self._values[name]

    def parts(self, names: Sequence[str]) -> list[tuple[_Key, tuple[int, ...]]]:
        """The frames by their values of these attributes, in the order of the values; all of them without names."""
        members: dict[_Key, list[int]] = {}
        for index in range(len(self._frames)):
            members.setdefault(tuple(self[name][index] for name in names), []).append(index)
        # Numbers before words, an absent value first.
        ordered = sorted(members, key=lambda key: [[(isinstance(v, str), v) for v in found] for found in key])
        return [(key, tuple(members[key])) for key in ordered]

    def changes(self, members: Sequence[int]) -> tuple[str, ...]:
        """As `Part.changes`."""
        constant = (name for name in _OF_A_RECONSTRUCTION if name not in _OF_A_SLAB)
        return tuple(name for name in constant if len({self[name][index] for index in members}) > 1)


def _names_of_repeats(known: _Known, places: NDArray[np.intp]) -> tuple[str, ...] | None:
    """The attributes that tell repeats of positions apart, () where there is no repeat; None: nothing does."""
    counts = np.bincount(places)
    if counts.max() == 1:
        return ()
    if len(counts) < 2 or counts.max() > MAX_VOLUMES or counts.min() != counts.max():
        return None
    differing = [name for name in _ATTRIBUTES if len(set(known[name])) > 1]
    wanted = list(range(len(counts)))
    for names in itertools.chain(itertools.combinations(differing, 1), itertools.combinations(differing, 2)):
        parts = known.parts(names)
        if all(sorted(places[list(members)].tolist()) == wanted for _, members in parts):
            return names
    return None


def _interleaved(known: _Known, parts: Sequence[tuple[_Key, tuple[int, ...]]], places: NDArray[np.intp]) -> str | None:
    """An attribute whose values come again along a part after others came; None where none does.

    A value that stays for a slab, or is another one in every slice, tells nothing: scans are made slab by slab, and
    some scanners count the slices.
    """
    for name in _OF_A_RECONSTRUCTION:
        for _, members in parts:
            along = [known[name][index] for index in sorted(members, key=lambda index: places[index])]
            different = len(set(along))
            runs = 1 + sum(a != b for a, b in itertools.pairwise(along))
            if runs > different and (different == 2 or 2 * different < len(along)):
                return name
    return None


def _number(keyword: str, group: str, inner: str, instance: Instance, frame: int) -> _Value:
    in_group = numbers(functional_group(instance.header, frame, group), inner) if group else None
    found = in_group or numbers(instance.header, keyword) or ()
    return tuple(round(number, 4) for number in found)  # written with more digits than were meant


def _word(keyword: str, group: str, inner: str, instance: Instance, frame: int) -> _Value:
    in_group = text(functional_group(instance.header, frame, group), inner) if group else ""
    return (in_group or text(instance.header, keyword),)


def _time_of_a_ct(instance: Instance, frame: int) -> _Value:
    # In MR and PET slices of one volume are acquired in turns.
    return (text(instance.header, "AcquisitionTime") if text(instance.header, "Modality") == "CT" else "",)


def _gradient(instance: Instance, frame: int) -> _Value:
    diffusion = functional_group(instance.header, frame, "MRDiffusionSequence")
    direction = value(diffusion, "DiffusionGradientDirectionSequence")
    item = direction[0] if direction else None
    return (
        numbers(item, "DiffusionGradientOrientation") or numbers(instance.header, "DiffusionGradientOrientation") or ()
    )


def _image_type(instance: Instance, frame: int) -> _Value:
    kinds = (text(functional_group(instance.header, frame, group), "FrameType") for group in FRAME_TYPES)
    return (next(filter(None, kinds), "") or text(instance.header, "ImageType"),)


def _shown(found: _Value) -> str:
    return "\\".join(shown(part) if isinstance(part, str) else f"{part:g}" for part in found) or "absent"


_ATTRIBUTES: dict[str, _Read] = {
    **{keyword: partial(_number, keyword, group, inner) for keyword, group, inner in _NUMBERS},
    "DiffusionGradientOrientation": _gradient,
    "ImageType": _image_type,
    **{keyword: partial(_word, keyword, group, inner) for keyword, group, inner in _WORDS},
    "AcquisitionTime": _time_of_a_ct,
}
