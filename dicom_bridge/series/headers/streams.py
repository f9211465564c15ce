"""What a compressed frame says of its own size, read before it is decoded.

A decoder allocates what its stream announces and works through it, whatever Rows and Columns say: a damaged stream of
a few kB can ask for gigabytes and minutes. So both must agree first.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from pydicom.encaps import generate_frames
from pydicom.uid import RLELossless

from dicom_bridge.series.headers.instance import Instance, numbers
from rcmed.errors import UnreadableFileError

MAX_COMPONENTS = 4
_JPEG = b"\xff\xd8"
_JPEG_2000 = b"\xff\x4f\xff\x51"
# Start of frame of ISO/IEC 10918-1 table B.1 and of JPEG-LS (ISO/IEC 14495-1 C.1.1); DHT, JPG and DAC lie between.
_STARTS_OF_FRAME = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}
# A run of PackBits holds at most 128 bytes in 2 (PS3.5 G.3.1).
_RLE_EXPANSION = 64


class StreamSize(NamedTuple):
    """As a frame's stream announces it."""

    rows: int
    columns: int
    components: int


def stream_size(stream: bytes) -> StreamSize | None:
    """The size that a JPEG, JPEG-LS or JPEG 2000 stream announces; None where it is none of them or says nothing."""
    if stream.startswith(_JPEG):
        return _jpeg_size(stream)
    begin = stream.find(_JPEG_2000, 0, 1024)  # JP2 boxes may stand before the code stream
    if begin < 0 or len(stream) < begin + 42:
        return None
    # SIZ, ISO/IEC 15444-1 A.5.1: reference grid, offset of the image in it, tile, offset of the tiles, components.
    right, bottom, left, top, *_, components = struct.unpack_from(">8IH", stream, begin + 8)
    return StreamSize(bottom - top, right - left, components)


def require_true_streams(instance: Instance, pixel_data: bytes, transfer_syntax: str) -> None:
    """Check that no frame announces another size than the header.

    Args:
        instance: the header.
        pixel_data: the encapsulated Pixel Data (PS3.5 A.4).
        transfer_syntax: its UID.

    Raises:
        UnreadableFileError: a stream announces another size, too many components, or can't be as large.
    """
    samples, bits = (
        int((numbers(instance.header, name, 1) or (1,))[0]) for name in ("SamplesPerPixel", "BitsAllocated")
    )
    frames = generate_frames(pixel_data, number_of_frames=instance.frames)
    for number, stream in enumerate(frames, 1):
        if transfer_syntax == RLELossless:
            wanted = instance.rows * instance.columns * samples * bits // 8
            if len(stream) * _RLE_EXPANSION < wanted:
                raise UnreadableFileError(
                    f"{instance.path}: frame {number} has {len(stream)} bytes of RLE, which can't hold {wanted} bytes"
                )
            continue
        size = stream_size(stream)
        if size is None:
            continue
        if (size.rows, size.columns) != (instance.rows, instance.columns) or size.components > MAX_COMPONENTS:
            raise UnreadableFileError(
                f"{instance.path}: the compressed stream of frame {number} announces {size.rows} x {size.columns} with "
                f"{size.components} components where Rows (0028,0010) and Columns (0028,0011) are {instance.rows} x "
                f"{instance.columns}; the file is damaged"
            )


def _jpeg_size(stream: bytes) -> StreamSize | None:
    place = 2
    while place + 4 <= len(stream) and stream[place] == 0xFF:
        marker = stream[place + 1]
        if marker == 0xFF:
            place += 1
        elif marker in _WITHOUT_LENGTH:
            place += 2
        elif marker in _STARTS_OF_FRAME:
            if place + 10 > len(stream):
                return None
            rows, columns, components = struct.unpack_from(">HHB", stream, place + 5)
            return StreamSize(rows, columns, components)
        else:
            place += 2 + int.from_bytes(stream[place + 2 : place + 4], "big")
    return None
