"""Frames to volumes: split by what the header tells, sorted, checked, stacked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_bridge.errors import SeriesGeometryError
from dicom_bridge.series.completeness import announced_shortfall
from dicom_bridge.series.geometry import FramePlane, arrange_stack
from dicom_bridge.series.headers.instance import MAX_PIXEL_BYTES, functional_group, text
from dicom_bridge.series.pixels import decode_frames, frame_values
from dicom_bridge.series.splitting import (
    FRAME_TYPES,
    MAX_VOLUMES,
    Frame,
    Part,
    has_repeats,
    split_stacks,
    split_volumes,
    without_copies,
)
from rcmed.image import Grid
from rcmed.modality import Modality


@dataclass(frozen=True, eq=False)
class Volume:
    """Slices that make a regular, right-angled stack.

    Attributes:
        pixels: (slice, row, column[, 3]).
        grid: where they are.
        frames: one per slice, in the order of the slices.
        notes: what was noticed, a clear line each.
    """

    pixels: NDArray[Any]
    grid: Grid
    frames: tuple[Frame, ...]
    notes: tuple[str, ...]


def build_volumes(name: str, planes: Sequence[FramePlane], frames: Sequence[Frame], modality: Modality) -> list[Volume]:
    """One volume, or those that the header tells apart; a refusal of one refuses all.

    Args:
        name: the series or file, for the lines.
        planes: of all frames of the instances.
        frames: the instances and frames, in the order of the planes.

    Raises:
        SeriesGeometryError: a part is no regular stack, or there are too many; one line with the reason.
    """
    slices, notes = _without_localizers(name, frames)
    values: list[NDArray[Any]] | None = None
    parts: list[Part] = []
    for stack in split_stacks([frames[index] for index in slices]):
        members = [slices[index] for index in stack.members]
        if len(split_volumes(*_of(members, planes, frames))) == 1 and has_repeats([planes[each] for each in members]):
            values = values or frame_arrays(name, frames, modality)
            kept, dropped = without_copies(*_of(members, planes, frames), [values[index] for index in members])
            members = [members[index] for index in kept]
            notes += [f"{name}: {dropped}"] if dropped else []
        found = split_volumes(*_of(members, planes, frames))
        parts += [
            replace(
                part,
                members=tuple(members[index] for index in part.members),
                reason="; ".join(filter(None, (stack.reason, part.reason))),
            )
            for part in found
        ]
    if len(parts) > MAX_VOLUMES:
        raise SeriesGeometryError(f"{name}: {parts[0].reason}; more than {MAX_VOLUMES} are not read one by one")
    arranged = [_arranged(name, part, planes) for part in parts]
    values = values or frame_arrays(name, frames, modality)
    volumes = []
    for part, (order, affine, doubts) in zip(parts, arranged, strict=True):
        members = [part.members[index] for index in order]
        pixels = stacked(name, [values[index] for index in members])
        grid = Grid((len(members), pixels.shape[1], pixels.shape[2]), affine)
        said = [*notes, *doubts, *(f"{name}: {line}" for line in _lines(part, frames))]
        volumes.append(Volume(pixels, grid, tuple(frames[index] for index in members), tuple(said)))
    return volumes


def frame_arrays(name: str, frames: Sequence[Frame], modality: Modality) -> list[NDArray[Any]]:
    """Values of all frames, each (row, column[, 3]); the frames of an instance stand together and in their order."""
    instances = list(dict.fromkeys(instance for instance, _ in frames))
    voxels = len(frames) * instances[0].rows * instances[0].columns
    if voxels > MAX_PIXEL_BYTES // 4:
        raise SeriesGeometryError(f"{name}: {voxels} voxels are above the limit of {MAX_PIXEL_BYTES // 4}")
    return [
        frame_values(instance, frame, index, modality)
        for instance in instances
        for index, frame in enumerate(decode_frames(instance))
    ]


def stacked(name: str, values: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """(slice, row, column[, 3])."""
    shapes = {value.shape for value in values}
    if len(shapes) > 1:
        raise SeriesGeometryError(f"{name}: decoded slices differ in shape: {sorted(shapes)}")
    kind = np.result_type(*{value.dtype for value in values})
    if kind == np.float64:
        kind = np.dtype(np.float32)
    stack = np.empty((len(values), *values[0].shape), dtype=kind)
    for place, found in enumerate(values):
        stack[place] = found
    return stack


def _of(
    members: Sequence[int], planes: Sequence[FramePlane], frames: Sequence[Frame]
) -> tuple[list[FramePlane], list[Frame]]:
    return [planes[index] for index in members], [frames[index] for index in members]


def _without_localizers(name: str, frames: Sequence[Frame]) -> tuple[list[int], list[str]]:
    """Indices of the frames whose Frame Type does not say LOCALIZER, and a line about the others."""
    slices = [
        index
        for index, (instance, frame) in enumerate(frames)
        if not any(
            "LOCALIZER" in text(functional_group(instance.header, frame, group), "FrameType").upper().split("\\")
            for group in FRAME_TYPES
        )
    ]
    others = len(frames) - len(slices)
    if not slices:
        raise SeriesGeometryError(f"{name}: all {others} frames are localizers (Frame Type (0008,9007)), no volume")
    return slices, [f"{name}: {others} localizer frames (Frame Type (0008,9007)) are left out"] if others else []


def _arranged(name: str, part: Part, planes: Sequence[FramePlane]) -> tuple[list[int], NDArray[np.float64], list[str]]:
    what = f" ({part.reason})" if part.reason else ""
    if len(part.members) == 1 and len(planes) > 1:
        raise SeriesGeometryError(f"{name}: a single slice is no volume{what}")
    try:
        return arrange_stack(name, [planes[index] for index in part.members])
    except SeriesGeometryError as error:
        raise SeriesGeometryError(f"{error}{what}") from error


def _lines(part: Part, frames: Sequence[Frame]) -> list[str]:
    lines = [part.reason] if part.reason else []
    if part.changes:
        lines.append(f"{' and '.join(part.changes)} change along the volume; its slabs are put together all the same")
    shortfall = announced_shortfall([frames[index][0] for index in part.members])
    return [*lines, *([shortfall] if shortfall else [])]
