"""Findings as a DICOM Segmentation (PS3.3 A.51)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from highdicom import PixelMeasuresSequence, PlaneOrientationSequence, PlanePositionSequence
from highdicom.seg import Segmentation as HighdicomSegmentation
from highdicom.seg import SegmentationTypeValues, SegmentDescription, SegmentsOverlapValues
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.valuerep import DSfloat

from dicom_bridge.results.codes import long_string, person_name
from dicom_bridge.results.identifiers import ResultIdentifiers, derive_uid
from dicom_bridge.results.provenance import made_by, tell_making
from dicom_bridge.results.references import ImageReference, spare_encoding_of_frames
from dicom_bridge.results.segmentations.authorship import BY_MODEL, Authorship
from dicom_bridge.results.segmentations.segments import describe_segment, label_map, segmented_findings
from dicom_bridge.results.segmentations.slides import make_slide
from dicom_bridge.results.sources.source import Plane, Source, as_secondary_capture, read_source
from rcmed.errors import GridMismatchError
from rcmed.findings import Findings
from rcmed.image import Image
from rcmed.packed_mask import PackedMask

# A stand-in's SOPInstanceUID is this and the number of its slice: every reference is rewritten by it.
_STAND_IN_ROOT = "2.25.0."
_MINIMUM_DISTANCE_MM = 1e-4
_OWN_OF_A_STAND_IN = (
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "NumberOfFrames",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "ImageOrientationSlide",
    "ImageCenterPointCoordinatesSequence",
    "TotalPixelMatrixRows",
    "TotalPixelMatrixColumns",
    "TotalPixelMatrixOriginSequence",
    "FrameOfReferenceUID",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "SpacingBetweenSlices",
)


def build_segmentation(
    findings: Findings, image: Image, identifiers: ResultIdentifiers, authorship: Authorship = BY_MODEL
) -> Dataset | None:
    """Build a BINARY Segmentation with one segment for each finding that has a region.

    Slices are matched with their instances and frames by the order of `image.sources`; nothing is flipped, resampled
    or sorted anew. The SEG lies in the source's own planes, in its frame of reference where it has one.

    Args:
        findings: masks bool (slice, row, column) on the image's own grid.
        image: with source instances; their files are read again (headers only).
        identifiers: of the job; the same job gives the same UIDs.
        authorship: who drew the regions.
    Returns:
        the SEG; None where nothing was found, or where a SEG is not allowed (CT, MR or PET without a frame of
        reference; `source.read_source(image).segmentation_refusal` says why).
    Raises:
        InputError: the source can't hold a result.
        GridMismatchError: findings, image and source do not lie on one grid.
    """
    if not findings.grid.matches(image.grid):
        raise GridMismatchError(
            f"the findings' grid {findings.grid.shape} is not the grid {image.grid.shape} of the image of series "
            f"{image.series_instance_uid}"
        )
    numbers = segmented_findings(findings)
    if not numbers:
        return None
    source = read_source(image)
    if source.segmentation_refusal is not None:
        return None
    masks = [region for region in (findings.findings[number].region for number in numbers) if region is not None]
    segments = [
        describe_segment(findings, number, place, identifiers, authorship)
        for place, number in enumerate(numbers, start=1)
    ]
    if source.is_slide:
        segmentation = make_slide(source, masks, segments, _common_arguments(findings, identifiers, authorship))
        _finish_references(segmentation, source)
        _finish(segmentation, source, findings, identifiers)
        return segmentation
    in_place = source.planes if source.planes is not None and _is_stack(source.planes) else None
    if in_place is None and len(source.headers) > 1:
        segmentation = _make(findings, source, _counting_planes(source), masks, segments, identifiers, authorship)
        _replace_planes(segmentation, source)
    else:
        segmentation = _make(findings, source, in_place, masks, segments, identifiers, authorship)
        if in_place is None:
            _measure(segmentation, image)
    _refer(segmentation, source)
    _finish(segmentation, source, findings, identifiers)
    return segmentation


def _make(
    findings: Findings,
    source: Source,
    planes: Sequence[Plane] | None,
    masks: list[PackedMask],
    segments: list[SegmentDescription],
    identifiers: ResultIdentifiers,
    authorship: Authorship,
) -> HighdicomSegmentation:
    used = _used_slices(masks)
    pixels: Any = label_map(masks, used)
    if pixels is None:
        pixels = _OverlappingSegments(masks, used)
    return _Segmentation(
        source_images=_stand_ins(source, planes, range(len(source.headers))[used]),
        pixel_array=pixels,
        segment_descriptions=segments,
        **_common_arguments(findings, identifiers, authorship),
    )


def _common_arguments(findings: Findings, identifiers: ResultIdentifiers, authorship: Authorship) -> dict[str, Any]:
    """Arguments of highdicom's constructor that are the same for every source."""
    return {
        "segmentation_type": SegmentationTypeValues.BINARY,
        "series_instance_uid": identifiers.segmentation_series_uid,
        "series_number": identifiers.series_number,
        "sop_instance_uid": identifiers.segmentation_uid,
        "instance_number": 1,
        "content_label": authorship.content_label,
        "content_description": long_string(authorship.content_description),
        "content_creator_name": person_name(authorship.creator) if authorship.creator else None,
        "series_description": long_string(authorship.series_description),
        "omit_empty_frames": True,
        **made_by(findings, identifiers),
    }


class _Segmentation(HighdicomSegmentation):
    """A Segmentation whose overlapping segments need not be in memory together, which highdicom asks for."""

    @classmethod
    def _check_and_cast_pixel_array(cls, pixel_array: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(pixel_array, _OverlappingSegments):
            return pixel_array, SegmentsOverlapValues.YES
        return super()._check_and_cast_pixel_array(pixel_array, *arguments, **options)

    @staticmethod
    def _get_segment_pixel_array(pixel_array: Any, segment_number: int, *arguments: Any, **options: Any) -> Any:
        if isinstance(pixel_array, _Plane):
            return pixel_array.segment(segment_number)
        return HighdicomSegmentation._get_segment_pixel_array(pixel_array, segment_number, *arguments, **options)


class _OverlappingSegments:
    """What highdicom needs of an array (slice, row, column, segment), made of masks one slice and segment at a time."""

    ndim = 4

    def __init__(self, masks: list[PackedMask], used: slice) -> None:
        self._masks, self._first = masks, used.start
        self.shape = (used.stop - used.start, *masks[0].shape[1:], len(masks))

    def __getitem__(self, index: int) -> _Plane:
        if index >= self.shape[0]:
            raise IndexError(index)
        return _Plane(self._masks, self._first + index)


@dataclass(frozen=True)
class _Plane:
    """A slice of all segments."""

    masks: list[PackedMask]
    index: int

    def any(self, *_: Any, **__: Any) -> bool:
        """Whether any segment holds anything; `numpy.any` asks it."""
        return any(mask.areas[self.index] for mask in self.masks)

    def segment(self, number: int) -> NDArray[np.uint8]:
        """One segment, counted from 1: uint8 (row, column)."""
        return self.masks[number - 1][self.index].view(np.uint8)


def _used_slices(masks: Sequence[PackedMask]) -> slice:
    """From the first slice with a segment to the last; at least two where there are so many.

    highdicom works as long for a slice that is left out as for one that is not, and takes their distance from two.
    """
    filled = np.flatnonzero(np.sum([mask.areas for mask in masks], axis=0))
    first, end = int(filled[0]), int(filled[-1]) + 1
    return slice(first, end) if end - first > 1 else slice(max(first - 1, 0), min(max(end, 2), masks[0].shape[0]))


def _stand_ins(source: Source, planes: Sequence[Plane] | None, numbers: Sequence[int]) -> list[Dataset]:
    """A single-frame Secondary Capture for each of these slices, with the first slice's header and the given plane.

    highdicom asks of a multi-frame source what many lack (functional groups, distinct positions, one instance); a
    stand-in for each frame has it all, and `_refer` puts the true instances and frames in its place.
    """
    header = source.headers[0]
    first = as_secondary_capture(header, _OWN_OF_A_STAND_IN)
    first.SeriesInstanceUID = header.SeriesInstanceUID
    if planes is not None:
        first.FrameOfReferenceUID = source.frame_of_reference_uid or derive_uid("no frame of reference")
        # One orientation is shared by all frames of a SEG; planes that differ by more are not a stack.
        first.ImageOrientationPatient = _decimals(planes[0].orientation)
        first.PixelSpacing = _decimals(planes[0].spacing)
        first.SliceThickness = _decimals([planes[0].thickness])[0]
    stand_ins = []
    for number in numbers:
        # What the slices have in common is told once: highdicom asks it of the first, and that the others agree.
        stand_in = Dataset(dict(first.items()))
        stand_in.SOPInstanceUID = f"{_STAND_IN_ROOT}{number}"
        if planes is not None:
            stand_in.ImagePositionPatient = _decimals(planes[number].position)
        stand_ins.append(stand_in)
    return stand_ins


def _decimals(values: Sequence[float]) -> list[DSfloat]:
    """Values as decimal strings of at most 16 characters (PS3.5 6.2)."""
    return [DSfloat(float(value), auto_format=True) for value in values]


def _is_stack(planes: Sequence[Plane]) -> bool:
    """Whether all planes are parallel, of one spacing, and at different distances along their normal."""
    first = planes[0]
    if any(not np.allclose(plane.orientation, first.orientation, atol=1e-3) for plane in planes):
        return False
    if any(not np.allclose(plane.spacing, first.spacing, rtol=1e-4) for plane in planes):
        return False
    normal = np.cross(first.orientation[:3], first.orientation[3:])
    distances = np.sort([float(np.dot(plane.position, normal)) for plane in planes])
    return bool((np.diff(distances) > _MINIMUM_DISTANCE_MM).all())


def _counting_planes(source: Source) -> list[Plane]:
    """Planes that only keep the slices in order; `_replace_planes` takes them out again."""
    return [
        Plane((0.0, 0.0, float(number)), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), (1.0, 1.0), 1.0)
        for number in range(len(source.headers))
    ]


def _slice_of(item: Dataset) -> int:
    return int(str(item.ReferencedSOPInstanceUID).removeprefix(_STAND_IN_ROOT))


def _frame_slice(group: Dataset) -> int:
    """Number of the slice that a frame of the SEG was made from, before `_refer`."""
    return _slice_of(group.DerivationImageSequence[0].SourceImageSequence[0])


def _replace_planes(segmentation: Dataset, source: Source) -> None:
    """Give frames that are no stack in space (cine, mixed or repeated planes) their own planes, or none."""
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    for keyword in ("PlaneOrientationSequence", "PixelMeasuresSequence"):
        if keyword in shared:
            delattr(shared, keyword)
    if source.planes is None:
        for keyword in ("FrameOfReferenceUID", "PositionReferenceIndicator"):
            if keyword in segmentation:
                delattr(segmentation, keyword)
    if "DimensionOrganizationType" in segmentation:
        del segmentation.DimensionOrganizationType
    for group in segmentation.PerFrameFunctionalGroupsSequence:
        number = _frame_slice(group)
        del group.PlanePositionSequence
        if source.planes is not None:
            plane = source.planes[number]
            group.PlanePositionSequence = PlanePositionSequence("PATIENT", plane.position)
            group.PlaneOrientationSequence = PlaneOrientationSequence("PATIENT", plane.orientation)
            group.PixelMeasuresSequence = PixelMeasuresSequence(plane.spacing, plane.thickness)
        content = group.FrameContentSequence[0]
        content.StackID = "1"
        content.InStackPositionNumber = number + 1
        # The index of the slice counts the slices that are there, from 1 (PS3.3 C.7.6.17.1).
        values = content.DimensionIndexValues
        content.DimensionIndexValues = [*(list(values)[:-1]), number + 1]
    index = segmentation.DimensionIndexSequence[-1]
    index.DimensionIndexPointer = Tag(0x0020, 0x9057)
    index.FunctionalGroupPointer = Tag(0x0020, 0x9111)
    index.DimensionDescriptionLabel = "In-Stack Position Number"


def _measure(segmentation: Dataset, image: Image) -> None:
    """A single 2D source: spacing where it is to be trusted, nothing else."""
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    if image.grid.in_millimetres:
        _, rows, columns = image.grid.spacing
        shared.PixelMeasuresSequence = PixelMeasuresSequence((rows, columns), min(rows, columns))


def _refer(segmentation: Dataset, source: Source) -> None:
    """Put the true instances and frames where the stand-ins were referred to."""
    for group in segmentation.PerFrameFunctionalGroupsSequence:
        for derivation in group.get("DerivationImageSequence", []):
            for item in derivation.SourceImageSequence:
                # highdicom shares one item among the segments of a plane.
                if not str(item.ReferencedSOPInstanceUID).startswith(_STAND_IN_ROOT):
                    continue
                reference = source.references[_slice_of(item)]
                whole = ImageReference(reference.sop_class_uid, reference.sop_instance_uid)
                for tag, element in whole.elements().items():
                    item[tag] = element
                if reference.frame_number is not None:
                    item.ReferencedFrameNumber = reference.frame_number
    _finish_references(segmentation, source)


def _finish_references(segmentation: Dataset, source: Source) -> None:
    """Name every instance of the source."""
    series: dict[str, list[Dataset]] = {}
    images = []
    for header, named in zip(source.instances, ImageReference.of(source.instances), strict=True):
        item = named.item()
        images.append(item)
        series.setdefault(str(header.SeriesInstanceUID), []).append(item)
    segmentation.SourceImageSequence = images
    segmentation.ReferencedSeriesSequence = []
    for series_uid, items in series.items():
        item = Dataset()
        item.SeriesInstanceUID = series_uid
        item.ReferencedInstanceSequence = items
        segmentation.ReferencedSeriesSequence.append(item)


def _finish(segmentation: Dataset, source: Source, findings: Findings, identifiers: ResultIdentifiers) -> None:
    header = source.headers[0]
    organisation = derive_uid(identifiers.job_id, "dimension organisation")
    segmentation.DimensionOrganizationSequence[0].DimensionOrganizationUID = organisation
    for index in segmentation.DimensionIndexSequence:
        index.DimensionOrganizationUID = organisation
    if "FrameOfReferenceUID" not in segmentation or source.is_slide:
        # Type 2C where there is no orientation in the patient (PS3.3 C.7.6.1).
        segmentation.PatientOrientation = header.get("PatientOrientation") or None
    if header.get("BurnedInAnnotation") in ("YES", "NO"):
        segmentation.BurnedInAnnotation = header.BurnedInAnnotation
    tell_making(segmentation, findings, identifiers)
    spare_encoding_of_frames(segmentation)
