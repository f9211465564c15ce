"""The source of a result: its data sets, mended so that a valid result can be built on them, and its planes."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from highdicom.spatial import is_tiled_image
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import SecondaryCaptureImageStorage

from dicom_bridge.results.sources.mending import mended
from dicom_bridge.series.headers.instance import NAMES_AND_PLACES, numbers, text, value
from rcmed.errors import GridMismatchError, InputError, UnreadableFileError
from rcmed.image import Grid, Image, SourceInstance

# Without these a result can't be filed with its study.
_TYPE_1 = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality")
# IODs whose Frame of Reference module is mandatory (PS3.3 A.3, A.4, A.21, A.36, A.38, A.56): a mask on them can only be
# placed by it, and an invented UID would break every overlay.
_NEEDS_FRAME_OF_REFERENCE = {"CT", "MR", "PT"}
_STORAGE = "1.2.840.10008.5.1.4.1.1."
# Image storage classes of one frame (PS3.4 B.5): CR, DX, MG, IO, CT, MR, US (also the retired one), SC, VL, PET.
_SINGLE_FRAME = {
    *("1", "1.1", "1.1.1", "1.2", "1.2.1", "1.3", "1.3.1", "2", "4", "6", "6.1", "7", "128"),
    *("77.1.1", "77.1.2", "77.1.3", "77.1.4"),
}


@dataclass(frozen=True)
class Plane:
    """Where a slice lies (DICOM PS3.3 C.7.6.2.1.1).

    Attributes:
        position: centre of the first pixel, LPS mm.
        orientation: direction cosines of a row (towards larger columns), then of a column.
        spacing: between rows, between columns, mm.
        thickness: of the slice in mm; the distance between slices where the source does not say.
    """

    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]
    thickness: float


@dataclass(frozen=True, eq=False)
class Source:
    """The instances a result refers to.

    Attributes:
        instances: header of each instance once, without pixels: the first whole and mended, of the others what names
            and places them; `whole_header` has the rest.
        headers: for each slice of the image the header of its instance, one of `instances`.
        references: for each slice, as in `Image.sources`; without a frame number where the storage class has no frames.
        planes: for each slice; None where the source has no position in a frame of reference.
        frame_of_reference_uid: None where the source has none.
        segmentation_refusal: why no SEG may be built; None where it may.
        is_slide: whether the one slice is put together from tiles (PS3.3 C.7.6.17.3); `instances` are then all parts of
            it, of a concatenation in their order.
        losses: a line for each attribute of the first instance that can't be copied as it is.
    """

    instances: tuple[Dataset, ...]
    headers: tuple[Dataset, ...]
    references: tuple[SourceInstance, ...]
    planes: tuple[Plane, ...] | None
    frame_of_reference_uid: str | None
    segmentation_refusal: str | None
    is_slide: bool
    losses: tuple[str, ...] = ()

    def whole_header(self, number: int) -> Dataset:
        """The header of a slice (from 0), whole and mended; read again where it is not the first instance's.

        Raises:
            UnreadableFileError: the file is gone or is no longer the instance that was read.
        """
        header = self.headers[number]
        return header if header is self.headers[0] else mended(*_read(self.references[number]))[0]


class KnownSources:
    """Sources that were read, and headers from which others are read without their files."""

    def __init__(self, headers: Mapping[Path, Dataset] | None = None) -> None:
        """Know no source yet.

        Args:
            headers: as `SeriesReading` has them, from when the images were read; what is not there is read from its
                file.
        """
        self._headers = headers or {}
        # With the image, which keeps its id from becoming another one's.
        self._sources: dict[int, tuple[Image, Source]] = {}

    def source_of(self, image: Image) -> Source:
        """As `read_source`; read at the first time."""
        if id(image) not in self._sources:
            self._sources[id(image)] = image, _read_source(image, self._headers)
        return self._sources[id(image)][1]


_known: ContextVar[KnownSources | None] = ContextVar("known", default=None)


@contextmanager
def sources_read_once(known: KnownSources | None = None) -> Iterator[None]:
    """Within it `read_source` reads the headers of an image once, for all the objects that are built for it.

    Args:
        known: what need not be read at all; None: nothing is known.
    """
    token = _known.set(known or KnownSources())
    try:
        yield
    finally:
        _known.reset(token)


def read_source(image: Image) -> Source:
    """Read and mend the headers of the instances an image came from; in `sources_read_once` once for an image.

    Raises:
        InputError: the image did not come from DICOM, or its source can't hold a result (no StudyInstanceUID, ...).
        UnreadableFileError: a file that is read again is gone or is no longer the instance that was read.
        GridMismatchError: the source's planes are not where the image's grid says, or of another size.
    """
    return (_known.get() or KnownSources()).source_of(image)


def _read_source(image: Image, known: Mapping[Path, Dataset]) -> Source:
    if not image.sources:
        raise InputError("a DICOM result needs a DICOM source: this image has no source instances")
    first, losses = mended(*_read(image.sources[0]))
    headers_by_path = {image.sources[0].path: first}
    for reference in image.sources:
        if reference.path not in headers_by_path:
            # Of the others only what names and places them is ever asked for; reading all costs more than building.
            headers_by_path[reference.path] = _read(reference, NAMES_AND_PLACES, known.get(reference.path))[0]
    headers = tuple(headers_by_path[reference.path] for reference in image.sources)
    if len({header.StudyInstanceUID for header in headers}) > 1:
        raise InputError(
            f"{image.sources[0].path}: the image's instances belong to several studies (tag (0020,000D)); "
            "make a result for each study"
        )
    rows, columns = image.grid.shape[1:]
    is_slide = image.grid.shape[0] == 1 and is_tiled_image(first)
    size = ("TotalPixelMatrixRows", "TotalPixelMatrixColumns") if is_slide else ("Rows", "Columns")
    for reference, header in zip(image.sources, headers, strict=True):
        if tuple(numbers(header, keyword, 1) for keyword in size) != ((rows,), (columns,)):
            raise GridMismatchError(
                f"{reference.path}: {size[0]} x {size[1]} {header_tag(size[0])}, {header_tag(size[1])} is "
                f"{header.get(size[0])} x {header.get(size[1])}, but the image's grid is {rows} x {columns}"
            )
    frames_of_reference = {text(header, "FrameOfReferenceUID") for header in headers}
    frame_of_reference_uid = frames_of_reference.pop() or None if len(frames_of_reference) == 1 else None
    planes = _planes(image, headers) if frame_of_reference_uid else None
    refusal = None
    modality = str(headers[0].Modality)
    if modality in _NEEDS_FRAME_OF_REFERENCE and frame_of_reference_uid is None:
        refusal = (
            f"{image.sources[0].path}: {modality} without one FrameOfReferenceUID (0020,0052): a segmentation of it "
            "can't be placed, the report stands alone; send the original, not a stripped copy"
        )
    elif is_slide:
        refusal = _unplaceable_slide(first, image.sources[0].path)
    parts = [_read_part(path) for path in image.files if is_slide and path not in headers_by_path]
    return Source(
        instances=tuple({str(header.SOPInstanceUID): header for header in (*headers, *parts)}.values()),
        headers=headers,
        references=tuple(map(_referable, image.sources)),
        planes=planes,
        frame_of_reference_uid=frame_of_reference_uid,
        segmentation_refusal=refusal,
        is_slide=is_slide,
        losses=losses,
    )


def _unplaceable_slide(header: Dataset, path: Path) -> str | None:
    """Why a mask can't be placed on a slide: what the frame of reference of a slide takes (PS3.3 C.8.12.4.1, A.51)."""
    shared = value(header, "SharedFunctionalGroupsSequence")
    measures = value(shared[0], "PixelMeasuresSequence") if shared else None
    needed = {
        "FrameOfReferenceUID": text(header, "FrameOfReferenceUID"),
        "ImageOrientationSlide": numbers(header, "ImageOrientationSlide", 6),
        "TotalPixelMatrixOriginSequence": value(header, "TotalPixelMatrixOriginSequence"),
        "PixelMeasuresSequence": measures and numbers(measures[0], "PixelSpacing", 2),
    }
    missing = [f"{keyword} {header_tag(keyword)}" for keyword, found in needed.items() if not found]
    if not missing:
        return None
    return (
        f"{path}: a slide without {' and '.join(missing)}: a segmentation of it can't be placed, the report stands "
        "alone; send the original"
    )


def _read_part(path: Path) -> Dataset:
    """A further instance of a slide: what names it."""
    header = _read_header(path, NAMES_AND_PLACES)
    _require_fileable(header, path)
    return header


def _referable(source: SourceInstance) -> SourceInstance:
    """Frames of an instance whose storage class has none (PS3.3 A.1.2) can't be referred to by number."""
    kind = source.sop_class_uid.removeprefix(_STORAGE)
    return replace(source, frame_number=None) if kind in _SINGLE_FRAME else source


def _read(
    reference: SourceInstance, wanted: Sequence[str] | None = None, known: Dataset | None = None
) -> tuple[Dataset, Path]:
    """The header of an instance, whole or of these keywords only, and its path; read unless it is known."""
    header = _read_header(reference.path, wanted) if known is None else known
    _require_fileable(header, reference.path)
    if text(header, "SOPInstanceUID") != reference.sop_instance_uid:
        raise UnreadableFileError(
            f"{reference.path}: SOPInstanceUID (0008,0018) is no longer {reference.sop_instance_uid}; read it again"
        )
    return header, reference.path


def _read_header(path: Path, wanted: Sequence[str] | None) -> Dataset:
    keywords = None if wanted is None else list(wanted)
    try:
        return dcmread(path, stop_before_pixels=True, force=True, specific_tags=keywords)
    except (OSError, InvalidDicomError, EOFError) as error:
        raise UnreadableFileError(f"{path}: can't be read again for the result: {error}") from error


def _require_fileable(header: Dataset, path: Path) -> None:
    for keyword in _TYPE_1:
        if not text(header, keyword):
            tag = header_tag(keyword)
            raise InputError(f"{path}: no {keyword} {tag}: a result can't be filed without it; send the original")


def as_secondary_capture(header: Dataset, without: Iterable[str] = ()) -> Dataset:
    """A header under the storage class that highdicom takes for any kind of image.

    The elements are shared with the header, which stays as it is: what is to be set anew belongs into `without`
    (setting an element changes it in place).

    Args:
        header: of an image, mended.
        without: keywords of elements that are left out.
    """
    stand_in = Dataset()
    stand_in._dict = copy.copy(header._dict)
    for keyword in ("SOPClassUID", *without):
        if keyword in stand_in:
            delattr(stand_in, keyword)
    stand_in.SOPClassUID = SecondaryCaptureImageStorage
    return stand_in


def header_tag(keyword: str) -> str:
    """The tag of a keyword as people write it: "(0020,000D)"."""
    tag = tag_for_keyword(keyword) or 0
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def _planes(image: Image, headers: tuple[Dataset, ...]) -> tuple[Plane, ...] | None:
    """The planes as the source gives them, else as the grid gives them; compared where both do."""
    from_grid = planes_of_grid(image.grid) if image.grid.in_patient_coordinates else None
    planes = []
    for reference, header in zip(image.sources, headers, strict=True):
        plane = _plane_of(header, reference.frame_number, image.grid.spacing[0])
        if plane is None:
            return from_grid
        planes.append(plane)
    if from_grid is not None and image.is_volume:
        tolerance = 0.5 * min(image.grid.spacing)
        for reference, placed, expected in zip(image.sources, planes, from_grid, strict=True):
            distance = float(np.abs(_corners(placed, image.grid) - _corners(expected, image.grid)).max())
            if distance > tolerance:
                raise GridMismatchError(
                    f"{reference.path}: ImagePositionPatient (0020,0032) and the image's grid differ by "
                    f"{distance:.2f} mm; the slices and their sources are not in one order"
                )
    return tuple(planes)


def planes_of_grid(grid: Grid) -> tuple[Plane, ...]:
    """The plane of each slice of a grid."""
    spacing = grid.spacing
    along_row, along_column = grid.affine[:3, 2] / spacing[2], grid.affine[:3, 1] / spacing[1]
    orientation = tuple(float(cosine) for cosine in (*along_row, *along_column))
    positions = grid.affine[:3, 3] + np.arange(grid.shape[0])[:, None] * grid.affine[:3, 0]
    return tuple(
        Plane(tuple(float(x) for x in position), orientation, (spacing[1], spacing[2]), spacing[0])
        for position in positions
    )


def _corners(plane: Plane, grid: Grid) -> NDArray[np.float64]:
    row, column = np.array(plane.orientation[:3]), np.array(plane.orientation[3:])
    down = column * plane.spacing[0] * (grid.shape[1] - 1)
    right = row * plane.spacing[1] * (grid.shape[2] - 1)
    origin = np.array(plane.position)
    return np.stack([origin, origin + down, origin + right, origin + down + right])


def _plane_of(header: Dataset, frame_number: int | None, otherwise_thick: float) -> Plane | None:
    """The plane of a frame from its functional groups or from the root of the data set."""
    groups = _functional_groups(header, frame_number)
    position = _numbers(groups, header, "PlanePositionSequence", "ImagePositionPatient", 3)
    orientation = _numbers(groups, header, "PlaneOrientationSequence", "ImageOrientationPatient", 6)
    spacing = _numbers(groups, header, "PixelMeasuresSequence", "PixelSpacing", 2)
    if position is None or orientation is None or spacing is None or min(spacing) <= 0:
        return None
    thickness = _numbers(groups, header, "PixelMeasuresSequence", "SliceThickness", 1)
    between = _numbers(groups, header, "PixelMeasuresSequence", "SpacingBetweenSlices", 1)
    given = [value[0] for value in (thickness, between) if value is not None and value[0] > 0]
    return Plane(position, orientation, spacing, given[0] if given else otherwise_thick)


def _functional_groups(header: Dataset, frame_number: int | None) -> list[Dataset]:
    """Per-frame, then shared functional groups of a frame (PS3.3 C.7.6.16); none in a classic instance."""
    groups: list[Dataset] = []
    per_frame = value(header, "PerFrameFunctionalGroupsSequence")
    if per_frame and frame_number is not None and frame_number <= len(per_frame):
        groups.append(per_frame[frame_number - 1])
    shared = value(header, "SharedFunctionalGroupsSequence")
    if shared:
        groups.append(shared[0])
    return groups


def _numbers(
    groups: list[Dataset], header: Dataset, sequence: str, keyword: str, count: int
) -> tuple[float, ...] | None:
    items = [found[0] for found in (value(group, sequence) for group in groups) if found]
    # A root attribute of a multi-frame instance speaks of one frame at most, so it is heard only in a classic one.
    if numbers(header, "NumberOfFrames", 1) in (None, (1.0,)):
        items.append(header)
    found = (numbers(item, keyword, count) for item in items)
    return next((one for one in found if one is not None), None)
