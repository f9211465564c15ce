"""Damaged DICOM files, made from sound ones: bytes of any file, elements of files that are not deflated or big endian.

Every mutation is a pure function of the content and a random generator, so a seed names a file for good.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from pydicom import dcmread
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement

_LONG_VRS = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
_UNDEFINED = 0xFFFFFFFF
_PIXEL_DATA = 0x7FE00010
_SYNTAXES = (
    *("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"),
    *(f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 70, 80, 81, 90, 91, 92, 201, 202, 203, 102)),
    *("1.2.840.10008.1.2.5", "1.2.840.10008.1.2.8.1", "1.2.3.4.5", "", "not a UID", "1.2.840.10008.5.1.4.1.1.2"),
)
_WHOLE_NUMBERS = (0, 1, 2, 3, 7, 8, 9, 12, 16, 17, 32, 64, 255, 512, 32767, 32768, 65535)
_WORDS = (
    *(b"", b" ", b"NaN", b"inf", b"-inf", b"1e308", b"1e999", b"-1", b"0", b"abc", b"1\\2\\3\\4\\5\\6\\7", b"\\\\\\"),
    *(b"0x10", b"1,5", b"\x00\x00\x00\x00", b"\xff\xfe\xfd", b"9" * 400, b"2000000000", b"1.5\\", b"\n\n", b"0\\0"),
    *(
        b"1\\0\\0\\0\\1\\0",
        b"0\\0\\0\\0\\0\\0",
        b"NaN\\NaN\\NaN",
        b"1e-300\\1e-300",
        b"../../../etc/passwd",
        b"0.5\\0.5",
    ),
)
_US_KEYWORDS = (
    *("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel"),
    *("PlanarConfiguration", "SmallestImagePixelValue", "LargestImagePixelValue"),
)
_TEXT_KEYWORDS = (
    *("NumberOfFrames", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "SliceThickness"),
    *("RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth", "PhotometricInterpretation", "ImageType"),
    *("Modality", "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"),
    *("Units", "PatientWeight", "SeriesTime", "AcquisitionNumber", "TemporalPositionIdentifier", "EchoTime"),
    *("DiffusionBValue", "InstanceNumber", "PixelPaddingValue", "SeriesDescription", "PatientName", "StudyDate"),
)
_PHOTOMETRIC = (b"MONOCHROME1", b"MONOCHROME2", b"RGB ", b"PALETTE COLOR ", b"YBR_FULL", b"YBR_FULL_422", b"YBR_ICT ")
_CHARACTER_SETS = (
    b"ISO_IR 192",
    b"ISO 2022 IR 87",
    b"\\ISO 2022 IR 149",
    b"GB18030 ",
    b"NONSENSE",
    b"\\\\\\",
    b"\xff\xff",
)
_VRS = (*sorted(_LONG_VRS), *(vr.encode() for vr in ("DS", "IS", "US", "SS", "UL", "FL", "FD", "AT", "LO", "PN", "UI")))

Mutation = Callable[[bytes, Random], bytes]


@dataclass(frozen=True)
class _Element:
    """Where an element of the top level lies in the file."""

    tag: int
    vr: bytes | None
    start: int
    value: int
    length: int

    @property
    def end(self) -> int:
        return self.value + self.length


def flip_bits(content: bytes, random: Random) -> bytes:
    """A few bits anywhere."""
    return _flip(content, random, 0, len(content))


def flip_header_bits(content: bytes, random: Random) -> bytes:
    """A few bits of the first 2 kB."""
    return _flip(content, random, 128, min(len(content), 2048))


def flip_stream_bits(content: bytes, random: Random) -> bytes:
    """A few bits where the pixel stream begins: the headers of JPEG, JPEG-LS, JPEG 2000 and RLE."""
    begin = content.rfind(b"\xe0\x7f\x10\x00")
    begin = max(begin, 0)
    return _flip(content, random, begin, min(len(content), begin + 400))


def truncate(content: bytes, random: Random) -> bytes:
    """The end is missing."""
    return content[: random.randrange(len(content))]


def cut_or_repeat(content: bytes, random: Random) -> bytes:
    """Some bytes are missing, come twice, are zero, or are noise."""
    begin = random.randrange(len(content))
    end = min(len(content), begin + random.choice((1, 2, 8, 100, 5000)))
    part = content[begin:end]
    new = random.choice((b"", part * 2, bytes(len(part)), random.randbytes(len(part)), random.randbytes(64) + part))
    return content[:begin] + new + content[end:]


def change_length(content: bytes, random: Random) -> bytes:
    """An element's length field lies."""
    element = _any_element(content, random)
    if element is None:
        return flip_bits(content, random)
    is_short = element.vr is not None and element.vr not in _LONG_VRS
    lie = random.choice((0, 1, element.length + 1, element.length * 2, 0x7FFFFFFF, 0xFFFFFFFE, _UNDEFINED))
    size = 2 if is_short else 4
    field = (lie & (0xFFFF if is_short else _UNDEFINED)).to_bytes(size, "little")
    return content[: element.value - size] + field + content[element.value :]


def change_vr(content: bytes, random: Random) -> bytes:
    """An element has the VR of another kind; the form of its length stays or not."""
    element = _any_element(content, random)
    if element is None or element.vr is None:
        return flip_header_bits(content, random)
    wrong = random.choice((*_VRS, b"\x00\x00", b"ZZ"))
    return content[: element.start + 4] + wrong + content[element.start + 6 :]


def remove_element(content: bytes, random: Random) -> bytes:
    """An element is missing."""
    element = _any_element(content, random)
    return truncate(content, random) if element is None else content[: element.start] + content[element.end :]


def repeat_element(content: bytes, random: Random) -> bytes:
    """An element stands twice, or another element's bytes stand where they don't belong."""
    one, other = _any_element(content, random), _any_element(content, random)
    if one is None or other is None:
        return cut_or_repeat(content, random)
    copy = content[one.start : one.end][:100_000]
    return content[: other.start] + copy + content[other.start :]


def change_pixel_module(content: bytes, random: Random) -> bytes:
    """A wrong number of the Image Pixel module."""
    number = random.choice(_WHOLE_NUMBERS)
    return _with(content, random, random.choice(_US_KEYWORDS), struct.pack("<H", number))


def change_text(content: bytes, random: Random) -> bytes:
    """A number, code or UID is empty, no number, infinite, of the wrong count or far too long."""
    return _with(content, random, random.choice(_TEXT_KEYWORDS), random.choice(_WORDS))


def change_photometric(content: bytes, random: Random) -> bytes:
    """The pixels mean something else than what is said."""
    return _with(content, random, "PhotometricInterpretation", random.choice(_PHOTOMETRIC))


def many_frames(content: bytes, random: Random) -> bytes:
    """More frames than there are."""
    return _with(content, random, "NumberOfFrames", random.choice((b"2 ", b"17", b"9999", b"131072", b"99999999")))


def huge_matrix(content: bytes, random: Random) -> bytes:
    """A matrix of gigabytes."""
    larger = _with(content, random, "Rows", struct.pack("<H", random.choice((8192, 30000, 65535))))
    return _with(larger, random, "Columns", struct.pack("<H", random.choice((4096, 30000, 65535))))


def change_transfer_syntax(content: bytes, random: Random) -> bytes:
    """The data set is encoded in another way than the file meta information says."""
    return _with(content, random, "TransferSyntaxUID", random.choice(_SYNTAXES).encode())


def change_character_set(content: bytes, random: Random) -> bytes:
    """A character set that is unknown or not the text's."""
    changed = _with(content, random, "SpecificCharacterSet", random.choice(_CHARACTER_SETS))
    changed = _with(changed, random, "PatientName", random.choice((b"\x1b$B\xff\xff", b"\x80\x81\xfe", b"^^^^====^^")))
    return _with(changed, random, "SeriesDescription", b"\x1b$)C\xff\xfe\x1b")


def add_private_junk(content: bytes, random: Random) -> bytes:
    """Private elements without a creator, of odd lengths and contents."""
    element = _any_element(content, random)
    if element is None:
        return cut_or_repeat(content, random)
    noise = random.randbytes(random.choice((0, 1, 3, 1000, 70_001)))
    return content[: element.start] + _encoded(0x00291010, b"UN", noise, element.vr is None) + content[element.start :]


def nest_sequences(content: bytes, random: Random) -> bytes:
    """Sequences in sequences, of undefined or lying length, with or without an end."""
    element = _any_element(content, random)
    if element is None:
        return cut_or_repeat(content, random)
    is_implicit = element.vr is None
    depth, is_closed = random.choice((10, 300, 3000, 30_000)), random.random() < 0.5
    length = random.choice((_UNDEFINED, _UNDEFINED, 8, 0x00FFFFFF))
    start = struct.pack("<HH", 0x0040, 0xA730) + (b"" if is_implicit else b"SQ\x00\x00") + struct.pack("<I", length)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, length)
    end = struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    nest = (start + item) * depth + (end * depth if is_closed else b"")
    return content[: element.start] + nest + content[element.start :]


def change_fragments(content: bytes, random: Random) -> bytes:
    """Pixel data without a value, of other length, or in fragments that lie."""
    element = _pixel_data(content)
    if element is None:
        return cut_or_repeat(content, random)
    head, value = content[: element.value], content[element.value :]
    if element.length != _UNDEFINED:
        size = random.choice((0, 1, len(value) // 2, max(len(value) - 1, 0)))
        return head[:-4] + struct.pack("<I", size) + value[:size]
    table = struct.pack("<HHI", 0xFFFE, 0xE000, 0)
    junk = random.randbytes(random.choice((0, 2, 200)))
    fragment = struct.pack("<HHI", 0xFFFE, 0xE000, random.choice((len(junk), _UNDEFINED, 0x7FFFFFFE))) + junk
    stop = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    offsets = struct.pack("<HHIII", 0xFFFE, 0xE000, 8, 0, random.choice((0, 3, 0x7FFFFFFF)))
    return head + random.choice(
        (table + fragment + stop, table + stop, stop, value[8:], offsets + value, table + value[8:])
    )


def change_stream_size(content: bytes, random: Random) -> bytes:
    """A JPEG, JPEG-LS or JPEG 2000 stream announces another matrix than Rows and Columns."""
    element = _pixel_data(content)
    if element is None:
        return cut_or_repeat(content, random)
    for marker in (b"\xff\xc0", b"\xff\xc1", b"\xff\xc3", b"\xff\xf7", b"\xff\x51"):
        place = content.find(marker, element.value, element.value + 4000)
        if place >= 0:
            is_2000 = marker == b"\xff\x51"
            size = random.choice((0, 1, 16, 30_000, 65_535, *((2**31 - 1, 2**32 - 1) if is_2000 else ())))
            lie = struct.pack(">II" if is_2000 else ">HH", size, random.choice((size, 4, 65_535)))
            begin = place + (6 if is_2000 else 5)
            return content[:begin] + lie + content[begin + len(lie) :]
    return flip_stream_bits(content, random)


MUTATIONS: dict[str, Mutation] = {
    mutation.__name__: mutation
    for mutation in (
        *(flip_bits, flip_header_bits, flip_stream_bits, truncate, cut_or_repeat, change_length, change_vr),
        *(remove_element, repeat_element, change_pixel_module, change_text, change_photometric, many_frames),
        *(huge_matrix, change_transfer_syntax, change_character_set, add_private_junk, nest_sequences),
        *(change_fragments, change_stream_size),
    )
}


def mutate(content: bytes, seed: int) -> tuple[str, bytes]:
    """One of the mutations by turns, sometimes a second one on top; returns their names and the damaged file."""
    random = Random(seed)
    names = [list(MUTATIONS)[seed % len(MUTATIONS)]]
    if random.random() < 0.25:
        names.append(random.choice(list(MUTATIONS)))
    for name in names:
        if content:
            content = MUTATIONS[name](content, random)
    return "+".join(names), content


def _flip(content: bytes, random: Random, begin: int, end: int) -> bytes:
    if end <= begin:
        return content
    changed = bytearray(content)
    for _ in range(random.choice((1, 2, 4, 16, 64))):
        changed[random.randrange(begin, end)] ^= 1 << random.randrange(8)
    return bytes(changed)


def _elements(content: bytes) -> list[_Element]:
    """Elements of the top level and of the file meta information whose place is known; none in odd encodings."""
    found = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = dcmread(io.BytesIO(content), force=True)
            if not dataset.original_encoding[1] or dataset.file_meta.get("TransferSyntaxUID", "").endswith(".1.99"):
                return []
            items = [
                item for part in (dataset.file_meta, dataset) for item in (part.get_item(tag) for tag in list(part))
            ]
    except Exception:
        return []
    for item in items:
        if isinstance(item, RawDataElement) and item.length != _UNDEFINED:
            vr = None if item.is_implicit_VR else content[item.value_tell - 8 : item.value_tell - 6]
            if vr is not None and vr not in _LONG_VRS:
                vr = content[item.value_tell - 4 : item.value_tell - 2]
            start = item.value_tell - (12 if vr in _LONG_VRS else 8)
            if struct.unpack_from("<HH", content, start) == (item.tag.group, item.tag.element):
                found.append(_Element(int(item.tag), vr, start, item.value_tell, item.length))
    return found


def _any_element(content: bytes, random: Random) -> _Element | None:
    elements = _elements(content)
    return random.choice(elements) if elements else None


def _pixel_data(content: bytes) -> _Element | None:
    for vr in (b"OB\x00\x00", b"OW\x00\x00", b""):
        start = content.rfind(struct.pack("<HH", 0x7FE0, 0x0010) + vr)
        if start >= 0 and start + 8 + len(vr) <= len(content):
            value = start + 8 + len(vr)
            length = struct.unpack_from("<I", content, value - 4)[0]
            return _Element(_PIXEL_DATA, vr[:2] or None, start, value, length)
    return None


def _encoded(tag: int, vr: bytes, value: bytes, is_implicit: bool) -> bytes:
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    if is_implicit:
        return head + struct.pack("<I", len(value)) + value
    if vr in _LONG_VRS:
        return head + vr + b"\x00\x00" + struct.pack("<I", len(value)) + value
    return head + vr + struct.pack("<H", len(value)) + value


def _with(content: bytes, random: Random, keyword: str, value: bytes) -> bytes:
    """The element of this keyword with this value, put in where it was absent."""
    tag = tag_for_keyword(keyword) or 0
    elements = [element for element in _elements(content) if (element.tag < 0x00030000) == (tag < 0x00030000)]
    if not elements:
        return flip_header_bits(content, random)
    old = next((element for element in elements if element.tag == tag), None)
    after = next((element for element in elements if element.tag > tag), elements[-1])
    is_implicit = after.vr is None
    new = _encoded(tag, dictionary_VR(tag).encode()[:2], value, is_implicit)
    begin, end = (old.start, old.end) if old else (after.start, after.start)
    return content[:begin] + new + content[end:]
