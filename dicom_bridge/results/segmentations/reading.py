"""A DICOM Segmentation to masks on the grid of the image that it belongs to: our own SEGs and those of other systems.

Writing is strict, reading is tolerant: BINARY, FRACTIONAL and LABELMAP, frames in any order, left out where they are
empty, turned or cropped against the source. What can't be placed voxel by voxel is refused; nothing is resampled.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from highdicom.color import CIELabColor
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.pixels import pixel_array, unpack_bits
from pydicom.uid import UID, SegmentationStorage

from dicom_bridge.results.segmentations.placing import FramePlacer, functional_group
from rcmed.codes import Code
from rcmed.errors import GridMismatchError, InputError, UnreadableFileError
from rcmed.image import Image

# Label Map Segmentation Storage (PS3.4 B.5, since 2024d); pydicom names it in newer versions only.
LABEL_MAP_STORAGE = UID("1.2.840.10008.5.1.4.1.1.66.7")
SEGMENTATION_CLASSES = (SegmentationStorage, LABEL_MAP_STORAGE)

MAX_BYTES = 2**32
"""Largest result of reading: layers times voxels, in bytes."""


@dataclass(frozen=True, eq=False)
class Segment:
    """One segment of a SEG on the grid of its image.

    Attributes:
        number: Segment Number (0062,0004).
        label: Segment Label (0062,0005), free text.
        algorithm_type: AUTOMATIC, SEMIAUTOMATIC or MANUAL; "" where the SEG does not say.
        tracking_uid, tracking_id: (0062,0021), (0062,0020); "" where absent.
        category, type, region, laterality: codes; None where absent.
        colour: sRGB, 0-255 each; None where absent.
        layer, value: where its voxels are in `SegmentLayers.layers`.
        mask: bool (slice, row, column) on the image's grid.
    """

    number: int
    label: str
    algorithm_type: str
    tracking_uid: str
    tracking_id: str
    category: Code | None
    type: Code | None
    region: Code | None
    laterality: Code | None
    colour: tuple[int, int, int] | None
    layer: int
    value: int
    _voxels: NDArray[np.unsignedinteger]

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Bool (slice, row, column) on the image's grid, the whole of it."""
        return np.asarray(self._voxels == self.value)


@dataclass(frozen=True, eq=False)
class SegmentLayers:
    """All segments of a SEG, in as few label maps as their overlaps allow.

    Attributes:
        segments: in the order of the SEG's Segment Sequence; those without a voxel too.
        layers: uint8 or uint16 (layer, slice, row, column) on the image's grid; 0 is background, and a segment's
            value (from 1, in the order of the segments) is its own in all layers.
    """

    segments: tuple[Segment, ...]
    layers: NDArray[np.unsignedinteger]


def is_segmentation(instance: Dataset) -> bool:
    """Whether it is a SEG, LABELMAP included."""
    return instance.get("SOPClassUID") in SEGMENTATION_CLASSES


def read_segments(segmentation: Dataset | Path, image: Image) -> tuple[Segment, ...]:
    """Read the segments of a SEG onto its image; overlapping ones keep all their voxels.

    Args:
        segmentation: the SEG or its file.
        image: with source instances.
    Returns:
        the segments in the order of the Segment Sequence.
    Raises:
        UnreadableFileError: the file or its pixel data can't be read.
        InputError: it is no SEG, or a segment or functional group is missing; names the attribute.
        GridMismatchError: a frame belongs to another series or lies on another grid.
    """
    return read_layers(segmentation, image).segments


def read_layers(segmentation: Dataset | Path, image: Image) -> SegmentLayers:
    """Read a SEG as label maps; see `read_segments` for what is read and raised."""
    dataset, name = _open(segmentation)
    try:
        return _read(dataset, image, name)
    except InputError:
        raise
    except Exception as error:  # values of other systems are parsed on access, and damaged ones raise nearly anything
        reason = " ".join(str(error).split())[:200]
        raise UnreadableFileError(
            f"{name}: can't be read as a segmentation ({type(error).__name__}: {reason})"
        ) from error


def _open(segmentation: Dataset | Path) -> tuple[Dataset, str]:
    if isinstance(segmentation, Dataset):
        return segmentation, f"SEG {segmentation.get('SOPInstanceUID', '')}"
    try:
        return dcmread(segmentation), str(segmentation)
    except (OSError, InvalidDicomError, EOFError) as error:
        raise UnreadableFileError(f"{segmentation}: can't be read: {error}") from error


def _read(dataset: Dataset, image: Image, name: str) -> SegmentLayers:
    if not is_segmentation(dataset):
        raise InputError(f"{name}: no segmentation: SOPClassUID (0008,0016) is {dataset.get('SOPClassUID')}")
    kind = str(dataset.get("SegmentationType", ""))
    if kind not in ("BINARY", "FRACTIONAL", "LABELMAP"):
        raise InputError(f"{name}: SegmentationType (0062,0001) {kind!r} is not BINARY, FRACTIONAL or LABELMAP")
    described = [item for item in dataset.get("SegmentSequence") or [] if int(item.SegmentNumber) > 0]
    if not described:
        raise InputError(f"{name}: SegmentSequence (0062,0002) describes no segment")
    values = {int(item.SegmentNumber): value for value, item in enumerate(described, start=1)}
    painter = _Painter(image, len(described), name)
    frames = _label_map_frames if kind == "LABELMAP" else _segment_frames
    for number, indices in frames(dataset, image, name):
        if number not in values:
            raise InputError(f"{name}: a frame holds segment {number}, which SegmentSequence (0062,0002) does not know")
        painter.paint(values[number], indices)
    layers = painter.stacked()
    return SegmentLayers(
        tuple(_segment(item, value, painter.layer_of.get(value, 0), layers) for value, item in enumerate(described, 1)),
        layers,
    )


class _Painter:
    """Puts segments into layers: each into the first in which it covers nothing of another."""

    def __init__(self, image: Image, count: int, name: str) -> None:
        self._shape = image.grid.shape
        self._kind = np.uint8 if count < 256 else np.uint16
        self._name = name
        self._layers: list[NDArray[np.unsignedinteger]] = []
        self.layer_of: dict[int, int] = {}

    def paint(self, value: int, indices: NDArray[np.intp]) -> None:
        if not len(indices):
            return
        if (indices < 0).any() or (indices >= np.array(self._shape)).any():
            raise GridMismatchError(f"{self._name}: a segment reaches beyond the series' grid {self._shape}")
        voxels = tuple(indices.T)
        number = next((n for n, layer in enumerate(self._layers) if not layer[voxels].any()), len(self._layers))
        if number == len(self._layers):
            size = np.dtype(self._kind).itemsize * (number + 1) * int(np.prod(self._shape, dtype=object))
            if size > MAX_BYTES:
                raise UnreadableFileError(
                    f"{self._name}: its overlapping segments need {size} bytes, above the limit of {MAX_BYTES}"
                )
            self._layers.append(np.zeros(self._shape, dtype=self._kind))
        self._layers[number][voxels] = value
        self.layer_of[value] = number

    def stacked(self) -> NDArray[np.unsignedinteger]:
        if not self._layers:
            return np.zeros((1, *self._shape), dtype=self._kind)
        return self._layers[0][np.newaxis] if len(self._layers) == 1 else np.stack(self._layers)


def _segment_frames(dataset: Dataset, image: Image, name: str) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """Segment number and voxel indices (point, 3) of each segment of a BINARY or FRACTIONAL SEG."""
    groups = _frame_groups(dataset, name)
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    placer = FramePlacer(dataset, image, name)
    # The least that counts as in the segment: half of what fully in is (PS3.3 C.8.20.2.3).
    threshold = (int(dataset.get("MaximumFractionalValue") or 255) + 1) // 2 if _is_fractional(dataset) else 1
    by_segment: dict[int, list[int]] = {}
    for frame, group in enumerate(groups):
        identification = functional_group(group, shared, "SegmentIdentificationSequence")
        if not identification or identification[0].get("ReferencedSegmentNumber") is None:
            raise InputError(f"{name}: frame {frame + 1} has no SegmentIdentificationSequence (0062,000A)")
        by_segment.setdefault(int(identification[0].ReferencedSegmentNumber), []).append(frame)
    for number, frames in by_segment.items():
        found = [np.empty((0, 3), dtype=np.intp)]
        for frame in frames:
            pixels = _frame_pixels(dataset, frame, name) >= threshold
            placement = placer.place(groups[frame], frame + 1)
            found.append(placement.indices(pixels))
        yield number, np.concatenate(found)


def _label_map_frames(dataset: Dataset, image: Image, name: str) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """Segment number and voxel indices (point, 3) of the segments in each frame of a LABELMAP SEG."""
    groups = _frame_groups(dataset, name)
    placer = FramePlacer(dataset, image, name)
    background = {0, int(dataset.get("PixelPaddingValue") or 0)}
    found: dict[int, list[NDArray[np.intp]]] = {}
    for frame, group in enumerate(groups):
        pixels = _frame_pixels(dataset, frame, name)
        placement = placer.place(group, frame + 1)
        for number in np.unique(pixels):
            if int(number) not in background:
                found.setdefault(int(number), []).append(placement.indices(pixels == number))
    for number, parts in found.items():
        yield number, np.concatenate(parts)


def _is_fractional(dataset: Dataset) -> bool:
    return str(dataset.SegmentationType) == "FRACTIONAL"


def _frame_groups(dataset: Dataset, name: str) -> list[Dataset]:
    groups = list(dataset.get("PerFrameFunctionalGroupsSequence") or [])
    frames = int(dataset.get("NumberOfFrames") or 1)
    if len(groups) != frames:
        raise InputError(
            f"{name}: {len(groups)} Per-frame Functional Groups (5200,9230) for {frames} frames (0028,0008)"
        )
    return groups


def _frame_pixels(dataset: Dataset, frame: int, name: str) -> NDArray[np.unsignedinteger]:
    """Stored values (row, column) of a frame, counted from 0."""
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    if "PixelData" not in dataset or dataset.PixelData is None:
        raise UnreadableFileError(f"{name}: Pixel Data (7FE0,0010) is missing")
    compressed = hasattr(dataset, "file_meta") and UID(dataset.file_meta.TransferSyntaxUID).is_encapsulated
    if int(dataset.BitsAllocated) == 1 and not compressed:
        # Frames are packed without padding between them (PS3.5 8.1.1), so that one may begin within a byte.
        size = rows * columns
        first, last = frame * size, (frame + 1) * size
        packed = dataset.PixelData[first // 8 : (last + 7) // 8]
        bits = unpack_bits(packed)[first % 8 : first % 8 + size] if packed else np.empty(0, np.uint8)
        if len(bits) < size:
            raise UnreadableFileError(f"{name}: Pixel Data (7FE0,0010) ends before frame {frame + 1}")
        return np.asarray(bits, dtype=np.uint8).reshape(rows, columns)
    return np.asarray(pixel_array(dataset, index=frame))


def _segment(item: Dataset, value: int, layer: int, layers: NDArray[np.unsignedinteger]) -> Segment:
    kind = item.get("SegmentedPropertyTypeCodeSequence")
    region = item.get("AnatomicRegionSequence")
    modifiers = [
        code
        for owner, keyword in (
            (kind, "SegmentedPropertyTypeModifierCodeSequence"),
            (region, "AnatomicRegionModifierSequence"),
        )
        if owner
        for code in owner[0].get(keyword) or []
    ]
    colour = item.get("RecommendedDisplayCIELabValue")
    return Segment(
        number=int(item.SegmentNumber),
        label=str(item.get("SegmentLabel") or f"Segment {item.SegmentNumber}"),
        algorithm_type=str(item.get("SegmentAlgorithmType") or ""),
        tracking_uid=str(item.get("TrackingUID") or ""),
        tracking_id=str(item.get("TrackingID") or ""),
        category=_code(item.get("SegmentedPropertyCategoryCodeSequence")),
        type=_code(kind),
        region=_code(region),
        laterality=_code(modifiers),
        colour=_rgb(colour) if colour is not None and len(colour) == 3 else None,
        layer=layer,
        value=value,
        _voxels=layers[layer],
    )


def _rgb(values: list[int]) -> tuple[int, int, int]:
    red, green, blue = CIELabColor.from_dicom_value([int(x) for x in values]).to_rgb()
    return int(red), int(green), int(blue)


def _code(sequence: list[Dataset] | None) -> Code | None:
    if not sequence:
        return None
    item = sequence[0]
    value = item.get("CodeValue") or item.get("LongCodeValue") or item.get("URNCodeValue")
    if value is None:
        return None
    return Code(str(value), str(item.get("CodingSchemeDesignator") or ""), str(item.get("CodeMeaning") or ""))
