"""One DICOM file's header, read without its pixels and without trusting a length field."""

from __future__ import annotations

import math
import os
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import Dataset
from pydicom.config import disable_value_validation
from pydicom.filereader import read_file_meta_info, read_partial
from pydicom.tag import BaseTag, Tag
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from rcmed.errors import NotAnImageError, UnknownFormatError, UnreadableFileError

MAX_PIXEL_BYTES = 2**32
"""Largest decoded image, in bytes; also the largest inflated data set."""
MAX_FRAMES = 2**17
"""Most frames of an instance."""

_PIXEL_DATA = 0x7FE00010
_FLOAT_PIXEL_DATA = (0x7FE00008, 0x7FE00009)
_UNDEFINED_LENGTH = 0xFFFFFFFF
_SEARCHED_BYTES = 1 << 21
_STORAGE = "1.2.840.10008.5.1.4.1.1."
_RT_IMAGE = _STORAGE + "481.1"
# Storage classes that hold no picture of a patient (PS3.4 B.5): waveforms, presentation states, parametric maps,
# segmentations and registrations (66), real world values, structured reports (88), annotations, encapsulated
# documents, plans, doses and structure sets (481) and others.
_NO_IMAGE = ("9.", "11.", "30", "66", "67", "68.", "78.", "79.1", "80.1", "82.1", "88.", "90.1", "91.1", "104.", "481.")
NO_IMAGE_MODALITIES = {
    *("SR", "SEG", "PR", "KO", "RWV", "ANN", "REG", "FID", "DOC", "PLAN", "SMR", "M3D", "AU", "ECG", "HD", "EPS"),
    *("RTSTRUCT", "RTPLAN", "RTDOSE", "RTRECORD", "RTINTENT", "RTRAD", "RTSEGANN"),
}
_READ_LATER = (
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "ImageType", "Modality"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "RescaleSlope"),
    *("RescaleIntercept", "WindowCenter", "WindowWidth", "BitsStored", "HighBit"),
)

NAMES_AND_PLACES = (
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality", "Rows", "Columns"),
    *("NumberOfFrames", "FrameOfReferenceUID", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"),
    *("SliceThickness", "SpacingBetweenSlices", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *("TotalPixelMatrixRows", "TotalPixelMatrixColumns", "TotalPixelMatrixOriginSequence", "ImageOrientationSlide"),
)
"""What a result asks of a slice beside the first: what it is, and where it lies."""
_NAMING_TAGS = tuple(Tag(keyword) for keyword in NAMES_AND_PLACES)


@dataclass(frozen=True)
class PixelDataPlace:
    """The element Pixel Data (7FE0,0010) of a file, not read yet.

    Attributes:
        vr: as written; None with implicit VR.
        offset, length: of its value, bytes.
    """

    vr: str | None
    offset: int
    length: int


@dataclass(frozen=True, eq=False)
class Instance:
    """The header of an image instance.

    Attributes:
        path: the file.
        header: every element before the pixel data.
        rows, columns, frames: as stored, all at least 1.
        pixel_bytes: value length of Pixel Data; None where encapsulated.
        pixel_data: where that value lies in the file; None where it is encapsulated or the data set is deflated.
    """

    path: Path
    header: Dataset
    rows: int
    columns: int
    frames: int
    pixel_bytes: int | None
    pixel_data: PixelDataPlace | None = None

    def uid(self, keyword: str) -> str:
        """A UID of the header; "" where absent."""
        return text(self.header, keyword)

    def names_and_places(self) -> Dataset:
        """The elements `NAMES_AND_PLACES` of the header, as far as it has them."""
        return Dataset({tag: self.header.get_item(tag) for tag in _NAMING_TAGS if tag in self.header})

    @property
    def is_colour(self) -> bool:
        """Whether the pixels become RGB."""
        return text(self.header, "PhotometricInterpretation") not in ("MONOCHROME1", "MONOCHROME2")

    @property
    def image_type(self) -> tuple[str, ...]:
        """Image Type (0008,0008), its values in capitals."""
        return tuple(part.upper() for part in text(self.header, "ImageType").split("\\"))


def value(item: Any, keyword: str) -> Any:
    """An attribute's value; None where absent, empty or not to be parsed."""
    try:
        found = item.get(keyword) if item is not None else None
    except Exception:  # a damaged value raises nearly anything on access
        return None
    return None if found is None or found == "" else found


def text(item: Any, keyword: str) -> str:
    """An attribute's value as text, several values joined by a backslash; "" where absent."""
    found = value(item, keyword)
    if found is None:
        return ""
    return found.strip() if isinstance(found, str) else "\\".join(str(v) for v in found) if _many(found) else str(found)


def shown(found: str) -> str:
    """A value of a file fit for a message: printable, one line, no longer than a UID may be."""
    return "".join(c if c.isprintable() else "?" for c in found)[:64]


def numbers(item: Any, keyword: str, count: int | None = None) -> tuple[float, ...] | None:
    """An attribute's values as finite floats; None where absent, damaged or not `count` of them."""
    found = value(item, keyword)
    if found is None:
        return None
    try:
        floats = tuple(float(v) for v in (found if _many(found) else [found]))
    except (TypeError, ValueError):
        return None
    if not floats or not all(math.isfinite(v) for v in floats) or (count is not None and len(floats) != count):
        return None
    return floats


def functional_group(header: Dataset, frame: int, keyword: str) -> Any:
    """A functional group's item for a frame (from 0): its own, else the shared one, else None (PS3.3 C.7.6.16)."""
    per_frame = value(header, "PerFrameFunctionalGroupsSequence")
    shared = value(header, "SharedFunctionalGroupsSequence")
    for groups, index in ((per_frame, frame), (shared, 0)):
        if groups is not None and index < len(groups):
            sequence = value(groups[index], keyword)
            if sequence:
                return sequence[0]
    return None


def load_instance(path: Path) -> Instance:
    """Read the header of an image instance.

    Raises:
        UnknownFormatError: not DICOM.
        NotAnImageError: a report, a segmentation, a plan, a directory, ...
        UnreadableFileError: damaged, or image attributes are missing; the text names the attribute.
    """
    with warnings.catch_warnings(), disable_value_validation():
        warnings.simplefilter("ignore")
        header, pixel_tag, place = _read_header(path)
        _require_image(path, header, pixel_tag)
        rows, columns = (_positive(path, header, keyword) for keyword in ("Rows", "Columns"))
        frames = 1 if value(header, "NumberOfFrames") is None else _positive(path, header, "NumberOfFrames")
        bits, samples = (_positive(path, header, keyword) for keyword in ("BitsAllocated", "SamplesPerPixel"))
        size = rows * columns * samples * frames * bits // 8
        if size > MAX_PIXEL_BYTES or frames > MAX_FRAMES:
            raise UnreadableFileError(
                f"{path}: {frames} frames of {rows} x {columns} ({size} bytes) are above the limit of "
                f"{MAX_PIXEL_BYTES} bytes and {MAX_FRAMES} frames"
            )
        if not text(header, "PhotometricInterpretation"):
            raise UnreadableFileError(f"{path}: PhotometricInterpretation (0028,0004) is missing")
        for keyword in _READ_LATER:  # parsed here once, where odd values are not worth a warning
            value(header, keyword)
    if place is None or place.length == _UNDEFINED_LENGTH:
        return Instance(path, header, rows, columns, frames, None)
    is_deflated = header.file_meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian
    return Instance(path, header, rows, columns, frames, place.length, None if is_deflated else place)


def _many(found: Any) -> bool:
    return not isinstance(found, (str, bytes)) and hasattr(found, "__iter__")


def _read_header(path: Path) -> tuple[Dataset, int | None, PixelDataPlace | None]:
    size = os.path.getsize(path)
    if size == 0:
        raise UnknownFormatError(f"{path}: empty (0 bytes); send it again")
    with open(path, "rb") as file:
        start = file.read(_SEARCHED_BYTES)
        head = start[:132]
        if head[:2] == b"\x1f\x8b":
            raise UnreadableFileError(f"{path}: compressed by gzip; unpack it first (gunzip)")
        has_preamble = head[128:] == b"DICM"
        file.seek(0)
        # Parsing the file meta information takes longer than seeing that the name of that encoding is nowhere.
        if has_preamble and (size > _SEARCHED_BYTES or DeflatedExplicitVRLittleEndian.encode() in start):
            size = _inflated_size(path) or size
        stopped: list[tuple[int, PixelDataPlace]] = []

        def at_pixels_or_lie(tag: BaseTag, vr: str | None, length: int) -> bool:
            # A length beyond the end of the file is a lie or a cut; nothing is allocated for it.
            if int(tag) in (_PIXEL_DATA, *_FLOAT_PIXEL_DATA) or (length != _UNDEFINED_LENGTH and length > size):
                stopped.append((int(tag), PixelDataPlace(vr, file.tell(), length)))
            return bool(stopped)

        try:
            header = read_partial(file, at_pixels_or_lie, defer_size=None, force=True)
            known = "SOPClassUID" in header or "Rows" in header or len(header.file_meta) > 0
        except Exception as error:  # pydicom raises nearly anything on damaged files
            kind = UnreadableFileError if has_preamble else UnknownFormatError
            raise kind(f"{path}: not to be parsed as DICOM ({type(error).__name__})") from error
        if not has_preamble and not known:
            raise UnknownFormatError(f"{path}: not DICOM: no preamble, no file meta information, no SOP Class UID")
        tag, place = stopped[0] if stopped else (None, None)
        if tag is not None and place is not None and size < place.length != _UNDEFINED_LENGTH:
            raise UnreadableFileError(
                f"{path}: element ({tag >> 16:04X},{tag & 0xFFFF:04X}) announces {place.length} bytes, "
                f"the file has {size}"
            )
    if "TransferSyntaxUID" not in header.file_meta:
        # PS3.10 7.1 requires it; a data set without it tells by its form.
        implicit = header.original_encoding[0]
        header.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    return header, tag, place


def _inflated_size(path: Path) -> int | None:
    """Bytes of a deflated data set (PS3.5 A.5), counted piece by piece; None where it is not deflated."""
    try:
        meta = read_file_meta_info(path)
        if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
            return None
        start = 132 + 12 + int(meta.FileMetaInformationGroupLength)
    except Exception:  # the full reading that follows says what is wrong
        return None
    total, inflater = 0, zlib.decompressobj(-zlib.MAX_WBITS)
    with open(path, "rb") as file:
        file.seek(start)
        pending = file.read(2**20)
        while pending and not inflater.eof:
            try:
                total += len(inflater.decompress(pending, 2**24))
            except zlib.error as error:
                raise UnreadableFileError(f"{path}: the deflated data set is damaged ({error})") from error
            if total > MAX_PIXEL_BYTES:
                raise UnreadableFileError(f"{path}: the deflated data set grows beyond {MAX_PIXEL_BYTES} bytes")
            pending = inflater.unconsumed_tail or file.read(2**20)
    return total


def _require_image(path: Path, header: Dataset, pixel_tag: int | None) -> None:
    sop_class = text(header, "SOPClassUID") or text(header.file_meta, "MediaStorageSOPClassUID")
    modality = text(header, "Modality")
    kind = sop_class.removeprefix(_STORAGE)
    foreign = sop_class.startswith("1.2.840.10008.") and kind == sop_class
    if foreign or (sop_class != kind and kind.startswith(_NO_IMAGE) and sop_class != _RT_IMAGE):
        raise NotAnImageError(f"{path}: no image but {_class_name(sop_class)}")
    if modality in NO_IMAGE_MODALITIES:
        raise NotAnImageError(f"{path}: no image: Modality (0008,0060) is {modality}")
    if pixel_tag in _FLOAT_PIXEL_DATA:
        raise NotAnImageError(f"{path}: floating-point pixels are a derived map, not an image")
    if pixel_tag is None:
        if "Rows" in header:
            raise UnreadableFileError(f"{path}: Pixel Data (7FE0,0010) is missing; send the complete instance")
        if sop_class.startswith(_STORAGE) and "Image Storage" in _class_name(sop_class):
            raise UnreadableFileError(
                f"{path}: cut before Rows (0028,0010) and Pixel Data (7FE0,0010); send the complete instance"
            )
        raise NotAnImageError(f"{path}: no image: neither Rows (0028,0010) nor Pixel Data (7FE0,0010)")


def _class_name(sop_class: str) -> str:
    from pydicom.uid import UID

    name = UID(sop_class).name
    return f"{name} ({sop_class})" if name != sop_class else shown(sop_class)


def _positive(path: Path, header: Dataset, keyword: str) -> int:
    from pydicom.datadict import tag_for_keyword

    found = numbers(header, keyword, 1)
    if found is None or found[0] < 1 or found[0] != int(found[0]):
        tag = tag_for_keyword(keyword) or 0
        raise UnreadableFileError(
            f"{path}: {keyword} ({tag >> 16:04X},{tag & 0xFFFF:04X}) is missing or no positive whole number"
        )
    return int(found[0])
