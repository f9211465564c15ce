"""What compressed frames announce: read as it was written, and compared with the header before anything is decoded."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage
from pydicom import dcmread
from pydicom.encaps import encapsulate

from dicom_bridge.series.dicom_reader import read_dicom
from dicom_bridge.series.headers.streams import stream_size
from mutation_sources import write_sources
from rcmed.errors import UnreadableFileError


@settings(max_examples=15, deadline=None)
@given(rows=st.integers(1, 70), columns=st.integers(1, 70), kind=st.sampled_from(("JPEG", "JPEG2000")))
def test_announced_size(rows: int, columns: int, kind: str) -> None:
    stream = io.BytesIO()
    PillowImage.fromarray(np.zeros((rows, columns, 3), dtype=np.uint8)).save(stream, kind)
    assert stream_size(stream.getvalue()) == (rows, columns, 3)


@given(st.binary(max_size=80), st.sampled_from((b"", b"\xff\xd8", b"\xff\x4f\xff\x51", b"\xff\xd8\xff\xc0")))
def test_noise_says_nothing_or_numbers(noise: bytes, head: bytes) -> None:
    size = stream_size(head + noise)
    assert size is None or all(isinstance(number, int) for number in size)


@pytest.mark.parametrize(
    ("name", "marker", "offset", "lie"),
    [
        ("picture-JPEG.dcm", b"\xff\xc0", 5, struct.pack(">HH", 65_500, 65_500)),
        ("picture-JPEG2000.dcm", b"\xff\x51", 6, struct.pack(">II", 2**31 - 1, 2**31 - 1)),
        ("ct-JPEG2000Lossless.dcm", b"\xff\x51", 6, struct.pack(">II", 33, 32)),
        ("ct-JPEGLSLossless.dcm", b"\xff\xf7", 5, struct.pack(">HH", 32, 65_000)),
    ],
)
def test_a_stream_of_another_size_is_refused(tmp_path: Path, name: str, marker: bytes, offset: int, lie: bytes) -> None:
    write_sources(tmp_path)
    content = (tmp_path / name).read_bytes()
    place = content.index(marker, content.index(b"\xe0\x7f\x10\x00")) + offset
    (tmp_path / name).write_bytes(content[:place] + lie + content[place + len(lie) :])
    with pytest.raises(UnreadableFileError, match=r"frame 1 announces \d+ x \d+ with [13] components .* 32 x 32"):
        read_dicom(tmp_path / name)


def test_few_bytes_of_rle_can_not_hold_a_large_matrix(tmp_path: Path) -> None:
    write_sources(tmp_path)
    dataset = dcmread(tmp_path / "ct-RLELossless.dcm")
    dataset.Rows = dataset.Columns = 30_000
    dataset.PixelData = encapsulate([bytes(200)])
    dataset.save_as(tmp_path / "large.dcm")
    with pytest.raises(UnreadableFileError, match="200 bytes of RLE, which can't hold 1800000000 bytes"):
        read_dicom(tmp_path / "large.dcm")
