"""Instances to images: every file becomes part of an image, or is refused with one reason."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_bridge.errors import SeriesGeometryError, UnsuitablePixelsError
from dicom_bridge.manufacturer import MANUFACTURER
from dicom_bridge.series.completeness import is_like_a_slice, with_unread_neighbours
from dicom_bridge.series.geometry import FramePlane, frame_planes, single_grid
from dicom_bridge.series.grouping import InstanceGroup, group_instances, is_mosaic, without_duplicates
from dicom_bridge.series.headers.body_part import tell_what_is_shown
from dicom_bridge.series.headers.instance import Instance, load_instance, shown, text, value
from dicom_bridge.series.headers.modality import modality_of, unlearned_kind
from dicom_bridge.series.pixels import decode_frames, frame_values, window_of
from dicom_bridge.series.quantities.rescaling import agreeing_slices
from dicom_bridge.series.quantities.suv import in_uptake_values
from dicom_bridge.series.splitting import Frame
from dicom_bridge.series.tiles import assemble_tiles, is_tiled
from dicom_bridge.series.volumes import build_volumes, frame_arrays, stacked
from rcmed.errors import InputError, NotAnImageError, UnknownFormatError, UnreadableFileError
from rcmed.image import UNKNOWN_UNIT, Grid, Image, SourceInstance
from rcmed.modality import Modality
from rcmed.readers.pixel_values import checked_values

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
            read, refused = _read_group(group, modality)
            images += _marked(read, group, modality)
            refusals += refused
        except InputError as error:
            refusals.append(_refusal(group, error))
        except Exception as error:  # values are parsed when they are asked for, and damaged ones raise nearly anything
            logger.debug("refused", exc_info=True)
            path = group.instances[0].path
            reason = UnreadableFileError(f"{path}: a value can't be read ({type(error).__name__}); the file is damaged")
            refusals.append(_refusal(group, reason))
    files = {file for image in images for file in image.files}
    unread = [one.paths[0] for one in refusals if _may_be_a_slice(one, files)]
    images = [with_unread_neighbours(image, unread) for image in images]
    headers = {instance.path: instance.names_and_places() for instance in instances if instance.path in files}
    return SeriesReading(tuple(images), tuple(refusals), headers)


def _marked(images: list[Image], group: InstanceGroup, wanted: Modality | None) -> list[Image]:
    """The images with the body regions that are told, and the reason where the weights can't tell anything of them."""
    images = [tell_what_is_shown(image, group.instances[0], wanted) for image in images]
    unlearned = unlearned_kind(group.instances[0])
    if wanted is not None or unlearned is None:
        return images
    line = f"{group.instances[0].path}: {unlearned}; nothing is looked for in it, rcmed find --modality chooses another"
    return [replace(image, unlearned=unlearned, warnings=(*image.warnings, line)) for image in images]


def _refusal(group: InstanceGroup, reason: InputError) -> Refusal:
    files = tuple(instance.path for instance in group.instances)
    return Refusal(files, group.instances[0].uid("SeriesInstanceUID"), reason, group.left_out is not None)


def _may_be_a_slice(refusal: Refusal, files: Collection[Path]) -> bool:
    """Whether a file could not be read that, as far as can be known, belongs to the slices that were."""
    if refusal.series_instance_uid or not isinstance(refusal.reason, UnreadableFileError):
        return False
    return not isinstance(refusal.reason, UnknownFormatError) or is_like_a_slice(refusal.paths[0], files)


def _read_group(group: InstanceGroup, wanted: Modality | None) -> tuple[list[Image], list[Refusal]]:
    """Images of a group, and those of its slices that are on another scale than the others."""
    first = group.instances[0]
    name = (
        f"series {shown(first.uid('SeriesInstanceUID'))} ({first.path.parent})" if group.is_stack else str(first.path)
    )
    if group.left_out or group.refused:
        raise SeriesGeometryError(f"{name}: {group.left_out or group.refused}")
    if text(first.header, "Manufacturer") == MANUFACTURER and value(first.header, "ContributingEquipmentSequence"):
        # A PACS may bring our pictures back to us: looked at again they would make pictures of pictures without end.
        raise NotAnImageError(f"{name}: a picture that RCMed made of its findings; it is not looked at again")
    modality, assumed = modality_of(first, wanted)
    for instance in group.instances:
        _require_suitable(instance, modality)
    notes = [*([assumed] if assumed else []), *(f"{name}: {note}" for note in group.notes)]
    if modality not in _MEASURED:
        return _images_of(name, group.instances, group.is_stack, modality, notes), []
    scale = agreeing_slices(group.instances, modality)
    refused: list[Refusal] = []
    if scale.refused:
        count = f"{len(scale.refused)} of {len(group.instances)} slices"
        reason = f"{scale.refused[0].path}: {scale.others}, unlike in other slices; {count} are left out of {name}"
        paths = tuple(instance.path for instance in scale.refused)
        refused.append(Refusal(paths, first.uid("SeriesInstanceUID"), UnsuitablePixelsError(reason)))
        notes.append(f"{name}: incomplete: {count} are left out; send the original")
    try:
        images = _images_of(name, scale.kept, group.is_stack and len(scale.kept) > 1, modality, notes)
    except InputError as error:
        raise type(error)("; ".join((str(error), *(str(one.reason) for one in refused)))) from error
    if scale.fault:
        what = "HU" if modality is Modality.CT else "SUV"
        line = f"{name}: {scale.fault}; no {what} is measured"
        images = [replace(image, unit=UNKNOWN_UNIT, warnings=(*image.warnings, line)) for image in images]
    elif modality is Modality.PET:
        series = f"series {shown(first.uid('SeriesInstanceUID'))}"
        images = in_uptake_values(images, scale.kept, series)
    return [checked_values(image, name) for image in images], refused


def _images_of(
    name: str, instances: Sequence[Instance], is_stack: bool, modality: Modality, notes: list[str]
) -> list[Image]:
    first = instances[0]
    planes = [plane for instance in instances for plane in frame_planes(instance)]
    frames = [(instance, frame) for instance in instances for frame in range(instance.frames)]
    if is_tiled(first):
        pixels, left_out = _slide(instances, modality)
        image = _image(pixels, _slide_grid(pixels, planes), modality, [(first, -1)], False, [*notes, *left_out])
        return [replace(image, files=tuple(instance.path for instance in instances))]
    if is_stack or (len(planes) > 1 and all(plane.position is not None for plane in planes)):
        return [
            _image(volume.pixels, volume.grid, modality, volume.frames, True, (*notes, *volume.notes))
            for volume in build_volumes(name, planes, frames, modality)
        ]
    grid = single_grid(first, planes)
    if not grid.in_millimetres and modality in _MEASURED:
        notes.append(f"{name}: no trustworthy PixelSpacing (0028,0030); nothing is measured in mm")
    pixels = stacked(name, frame_arrays(name, frames, modality))
    return [_image(pixels, grid, modality, frames, False, notes)]


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


def _slide(parts: Sequence[Instance], modality: Modality) -> tuple[NDArray[Any], list[str]]:
    """The picture of a tiled object, (1, row, column[, 3]), and what of it is left out."""
    frames = (
        frame_values(part, frame, index, modality) for part in parts for index, frame in enumerate(decode_frames(part))
    )
    picture, left_out = assemble_tiles(parts, frames)
    return picture[np.newaxis], left_out


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
