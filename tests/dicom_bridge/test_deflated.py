"""Deflated instances: the receiver inflates what it needs of them, however much they stand for."""

from __future__ import annotations

import tracemalloc
import zlib
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, generate_uid

from dicom_bridge.ingest.intake import InstanceIntake, Origin, RefusedInstanceError, Taken
from dicom_bridge.series.headers.deflated import InflatedStart, inflated
from dicom_bridge.settings import ReceiveSettings
from dicom_bridge.store.database import Database
from dicom_bridge.store.files.instance_files import InstanceFiles
from dicom_bridge.store.index import StudyIndex
from synthetic_study import ct_slice

ZEROS = 400_000_000


def bomb(before_uids: bool) -> tuple[bytes, Dataset]:
    """A CT slice of which a private element, or the pixels, stand for 400 MB; its bytes and its header."""
    dataset = ct_slice(0, generate_uid(), generate_uid(), generate_uid())
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.PixelData = b"PLACE OF MANY ZEROS."
    dataset.add_new((0x0009, 0x0010), "LO", "RCMED TEST")
    dataset.add_new((0x0009, 0x1001), "OB", b"PLACE OF MORE ZEROS.")
    plain = BytesIO()
    dataset.save_as(plain, implicit_vr=False, little_endian=True, enforce_file_format=True)
    content = plain.getvalue()
    start = 144 + int.from_bytes(content[140:144], "little")
    meta, data_set = content[:start], zlib.decompress(content[start:], -zlib.MAX_WBITS)
    marked = b"PLACE OF MORE ZEROS." if before_uids else b"PLACE OF MANY ZEROS."
    before, _, after = data_set.partition(len(marked).to_bytes(4, "little") + marked)
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    pieces = [deflater.compress(before + ZEROS.to_bytes(4, "little"))]
    pieces += [deflater.compress(bytes(1_000_000)) for _ in range(ZEROS // 1_000_000)]
    return b"".join([meta, *pieces, deflater.compress(after), deflater.flush()]), dataset


@pytest.fixture
def intake(tmp_path: Path) -> InstanceIntake:
    files, index = InstanceFiles(tmp_path), StudyIndex(Database(tmp_path / "index.sqlite"))
    files.prepare()
    return InstanceIntake(ReceiveSettings(minimum_free_megabytes=0), files, index)


@pytest.mark.parametrize("is_meta_apart", [True, False])
@pytest.mark.parametrize("before_uids", [True, False])
@pytest.mark.slow
def test_a_bomb_costs_the_receiver_little(intake: InstanceIntake, before_uids: bool, is_meta_apart: bool) -> None:
    content, header = bomb(before_uids)
    assert len(content) < 2_000_000
    start = 144 + int.from_bytes(content[140:144], "little")
    parts = [content[:start], content[start:]] if is_meta_apart else [content]
    syntax = str(DeflatedExplicitVRLittleEndian) if is_meta_apart else None
    origin = Origin(intake.index.open_association("ODD", "RCMED", "127.0.0.1"), "ODD", "RCMED")
    tracemalloc.start()
    try:
        if before_uids:
            with pytest.raises(
                RefusedInstanceError, match=r"deflated data set has more than .* bytes before Pixel Data"
            ):
                intake.take(parts, origin, transfer_syntax=syntax)
        else:
            arrived = intake.take(parts, origin, transfer_syntax=syntax)
            assert (arrived.outcome, arrived.instance_uid) == (Taken.STORED, header.SOPInstanceUID)
            assert arrived.study_uid == header.StudyInstanceUID
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < ZEROS / 2, f"{peak / 1e6:.0f} MB"


@given(st.binary(max_size=5000), st.integers(1, 700), st.integers(0, 6000))
def test_the_start_is_the_start(content: bytes, piece: int, size: int) -> None:
    deflater = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    stream = deflater.compress(content) + deflater.flush()
    pieces = [stream[place : place + piece] for place in range(0, len(stream), piece)]
    assert b"".join(inflated(pieces)) == content
    start = InflatedStart(pieces)
    first = start.first(size)
    assert content.startswith(first) and len(first) >= min(size, len(content))
    assert start.first(10_000) == content and start.is_whole
