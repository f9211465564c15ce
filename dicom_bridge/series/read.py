"""Instances to images: every file becomes part of an image, or is refused with one reason."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_bridge.errors import SeriesGeometryError, UnsuitablePixelsError
from dicom_bridge.maker import MANUFACTURER
from dicom_bridge.series.geometry import FramePlane, arrange_stack, frame_planes, single_grid
from dicom_bridge.series.grouping import InstanceGroup, group_instances, is_mosaic, without_duplicates
from dicom_bridge.series.instance import MAX_PIXEL_BYTES, Instance, load_instance, shown, text, value
from dicom_bridge.series.modality import modality_of, unlearned_kind
from dicom_bridge.series.pixels import decode_frames, frame_values, window_of
from dicom_bridge.series.splitting import Frame, Part, has_repeats, split_volumes, without_copies
from dicom_bridge.series.suv import in_uptake_values
from dicom_bridge.series.tiles import assemble_tiles, is_tiled
from rcmed.errors import InputError, NotAnImageError, UnreadableFileError
from rcmed.image import Grid, Image, Modality, SourceInstance

logger = logging.getLogger(__name__)

_MEASURED = (Modality.CT, Modality.MR, Modality.PET)


@dataclass(frozen=True)
class Refusal:
    """Files that make no image.

    Attributes:
        paths: the files.
        series_instance_uid: "" where a file does not even tell that.
        reason: one line that names the file or series, the tag and the mend.
        left_out: whether they are meant to stand beside an image (localizers), so that nothing is lost without them.
    """

    paths: tuple[Path, ...]
    series_instance_uid: str
    reason: InputError
    left_out: bool = False


@dataclass(frozen=True)
class SeriesReading:
    """What became of the files.

    Attributes:
        images: a volume for each regular stack, an image for each picture, a set of frames for each cine loop.
        refusals: the rest.
        headers: of each file of an image what names and places it (`NAMES_AND_PLACES`); a result needs it again.
    """

    images: tuple[Image, ...]
    refusals: tuple[Refusal, ...]
    headers: Mapping[Path, Dataset] = field(default_factory=dict)


def read_series(paths: Iterable[Path], modality: Modality | None = None) -> SeriesReading:
    """Read instances, usually of one series; several series are kept apart.

    Args:
        paths: DICOM files in any order.
        modality: for instances that do not say (Secondary Capture, OT).

    Returns:
        Images and refusals. No damaged or odd file raises; it is refused, and the others are read.
    """
    instances: list[Instance] = []
    refusals: list[Refusal] = []
    for path in paths:
        try:
            instances.append(load_instance(Path(path)))
        except InputError as error:
            refusals.append(Refusal((Path(path),), "", error))
        except OSError as error:
            reason = UnreadableFileError(f"{path}: can't be opened ({error.strerror})")
            refusals.append(Refusal((Path(path),), "", reason))
    images: list[Image] = []
    instances, copies = without_duplicates(instances)
    for copy in copies:
        reason = UnreadableFileError(
            f"{copy.path}: SOP Instance UID (0008,0018) of another file; the first one is kept"
        )
        refusals.append(Refusal((copy.path,), copy.uid("SeriesInstanceUID"), reason, left_out=True))
    for group in group_instances(instances):
        try:
            read = _read_group(group, modality)
            if read and read[0].modality is Modality.PET:
                first = group.instances[0]
                read = in_uptake_values(read, group.instances, f"series {shown(first.uid('SeriesInstanceUID'))}")
            images += _marked(read, group, modality)
        except InputError as error:
            refusals.append(_refusal(group, error))
        except Exception as error:  # values are parsed when they are asked for, and damaged ones raise nearly anything
            logger.debug("refused", exc_info=True)
            path = group.instances[0].path
            reason = UnreadableFileError(f"{path}: a value can't be read ({type(error).__name__}); the file is damaged")
            refusals.append(_refusal(group, reason))
    used = {file for image in images for file in image.files}
    headers = {instance.path: instance.names_and_places() for instance in instances if instance.path in used}
    return SeriesReading(tuple(images), tuple(refusals), headers)


def _marked(images: list[Image], group: InstanceGroup, wanted: Modality | None) -> list[Image]:
    """The images, with the reason where they are of a kind that the weights can't tell anything of."""
    unlearned = unlearned_kind(group.instances[0])
    if wanted is not None or unlearned is None:
        return images
    line = f"{group.instances[0].path}: {unlearned}; nothing is looked for in it, give --modality to choose another"
    return [replace(image, unlearned=unlearned, warnings=(*image.warnings, line)) for image in images]


def _refusal(group: InstanceGroup, reason: InputError) -> Refusal:
    files = tuple(instance.path for instance in group.instances)
    return Refusal(files, group.instances[0].uid("SeriesInstanceUID"), reason, group.left_out is not None)


def _read_group(group: InstanceGroup, wanted: Modality | None) -> list[Image]:
    first = group.instances[0]
    name = (
        f"series {shown(first.uid('SeriesInstanceUID'))} ({first.path.parent})" if group.is_stack else str(first.path)
    )
    if group.left_out:
        raise SeriesGeometryError(f"{name}: {group.left_out}")
    if text(first.header, "Manufacturer") == MANUFACTURER and value(first.header, "ContributingEquipmentSequence"):
        # A PACS may bring our pictures back to us: looked at again they would make pictures of pictures without end.
        raise NotAnImageError(f"{name}: a picture that RCMed made of its findings; it is not looked at again")
    modality, assumed = modality_of(first, wanted)
    for instance in group.instances:
        _require_suitable(instance, modality)
    planes = [plane for instance in group.instances for plane in frame_planes(instance)]
    notes = [assumed] if assumed else []
    frames = [(instance, frame) for instance in group.instances for frame in range(instance.frames)]
    if len(group.instances) == 1 and is_tiled(first):
        pixels = _slide(first, modality)
        return [_image(pixels, _slide_grid(pixels, planes), modality, [(first, -1)], False, notes)]
    if group.is_stack or (len(planes) > 1 and all(plane.position is not None for plane in planes)):
        return _volumes(name, planes, frames, modality, notes)
    grid = single_grid(first, planes)
    if not grid.in_millimetres and modality in _MEASURED:
        notes.append(f"{name}: no trustworthy PixelSpacing (0028,0030); nothing is measured in mm")
    pixels = _stacked(name, _values(name, frames, modality))
    return [_image(pixels, grid, modality, frames, False, notes)]


def _volumes(
    name: str, planes: list[FramePlane], frames: list[Frame], modality: Modality, notes: list[str]
) -> list[Image]:
    """One volume, or those that the header tells apart; a refusal of one refuses all."""
    parts = split_volumes(planes, frames)
    values: list[NDArray[Any]] | None = None
    if len(parts) == 1 and has_repeats(planes):
        values = _values(name, frames, modality)
        kept, dropped = without_copies(planes, frames, values)
        parts = [Part(kept, dropped)]
    arranged = [arrange_stack(name, [planes[index] for index in part.members]) for part in parts]
    values = values or _values(name, frames, modality)
    images = []
    for part, (order, affine, found) in zip(parts, arranged, strict=True):
        members = [part.members[index] for index in order]
        pixels = _stacked(name, [values[index] for index in members])
        grid = Grid((len(members), pixels.shape[1], pixels.shape[2]), affine)
        said = [*notes, *found, *([f"{name}: {part.reason}"] if part.reason else [])]
        images.append(_image(pixels, grid, modality, [frames[index] for index in members], True, said))
    return images


def _image(
    pixels: NDArray[Any],
    grid: Grid,
    modality: Modality,
    frames: Sequence[Frame],
    is_volume: bool,
    notes: Sequence[str],
) -> Image:
    middle, frame = frames[len(frames) // 2]
    return Image(
        pixels,
        grid,
        modality,
        sources=tuple(_source(*source) for source in frames),
        files=tuple(dict.fromkeys(instance.path for instance, _ in frames)),
        is_volume=is_volume,
        window=window_of(middle, max(frame, 0), modality),
        series_instance_uid=middle.uid("SeriesInstanceUID") or None,
        warnings=tuple(notes),
    )


def _require_suitable(instance: Instance, modality: Modality) -> None:
    if is_mosaic(instance):
        raise SeriesGeometryError(
            f"{instance.path}: a mosaic (ImageType MOSAIC) holds all slices as tiles of one frame; "
            "export the series as single slices or as an enhanced object"
        )
    if modality in _MEASURED and instance.is_colour:
        raise UnsuitablePixelsError(
            f"{instance.path}: colour pixels of modality {modality} are a capture or a map, not measured values"
        )
    if {"LABEL", "OVERVIEW"} & set(instance.image_type) and modality is Modality.PATHOLOGY:
        raise NotAnImageError(f"{instance.path}: the label or overview of a slide, not its tissue")


def _values(name: str, frames: Sequence[Frame], modality: Modality) -> list[NDArray[Any]]:
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


def _stacked(name: str, values: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """(slice, row, column[, 3])."""
    shapes = {value.shape for value in values}
    if len(shapes) > 1:
        raise SeriesGeometryError(f"{name}: decoded slices differ in shape: {sorted(shapes)}")
    kind = np.result_type(*{value.dtype for value in values})
    if kind == np.float64:
        kind = np.dtype(np.float32)
    stacked = np.empty((len(values), *values[0].shape), dtype=kind)
    for place, found in enumerate(values):
        stacked[place] = found
    return stacked


def _slide(instance: Instance, modality: Modality) -> NDArray[Any]:
    frames = (frame_values(instance, frame, index, modality) for index, frame in enumerate(decode_frames(instance)))
    picture: NDArray[Any] = assemble_tiles(instance, frames)[np.newaxis]
    return picture


def _slide_grid(pixels: NDArray[Any], planes: list[FramePlane]) -> Grid:
    rows, columns = pixels.shape[1:3]
    spacing = planes[0].spacing
    plain = Grid.without_geometry(rows, columns)
    if spacing is None:
        return plain
    return Grid(plain.shape, plain.affine * np.array([1, *spacing, 1]), True, False)


def _source(instance: Instance, frame: int) -> SourceInstance:
    return SourceInstance(
        instance.path,
        instance.uid("SOPClassUID"),
        instance.uid("SOPInstanceUID"),
        instance.uid("SeriesInstanceUID"),
        instance.uid("StudyInstanceUID"),
        frame + 1 if instance.frames > 1 and frame >= 0 else None,
    )
