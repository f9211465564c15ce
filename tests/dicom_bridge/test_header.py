"""The receiver's look at a header says what pydicom says, however the instance is encoded and cut into pieces."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filereader import data_element_generator
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    generate_uid,
)

from dicom_bridge.ingest.header import Header, read_header
from dicom_bridge.series.headers.skimming import skim
from dicom_bridge.store.study_facts import study_facts
from dicom_bridge.studies.facts import series_facts
from synthetic_study import ct_slice


def encoded(dataset: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    dataset.file_meta.TransferSyntaxUID = syntax
    buffer = BytesIO()
    dataset.save_as(
        buffer,
        implicit_vr=syntax == ImplicitVRLittleEndian,
        little_endian=syntax != ExplicitVRBigEndian,
        enforce_file_format=True,
    )
    return buffer.getvalue()


def sample() -> Dataset:
    dataset = ct_slice(3, generate_uid(), generate_uid(), generate_uid())
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.StudyDescription = " Schädel "
    dataset.ProtocolName = ""
    del dataset.BodyPartExamined
    item = Dataset()
    item.SOPInstanceUID = generate_uid()  # of another instance
    item.SeriesInstanceUID = generate_uid()
    dataset.ReferencedImageSequence = [item]
    dataset.NumberOfStudyRelatedInstances = 7
    requested = Dataset()
    requested.RequestedProcedurePriority = "STAT"
    dataset.RequestAttributesSequence = [requested]
    dataset["ReferencedImageSequence"].is_undefined_length = True
    return dataset


def expected(dataset: Dataset, syntax: str) -> Header:
    names = (dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.StudyInstanceUID, dataset.SeriesInstanceUID)
    return Header(
        syntax,
        *map(str, names),
        series_facts(dataset, "CT01", "RCMED"),
        dataset.NumberOfStudyRelatedInstances,
        study_facts(dataset),
    )


def read(*parts: bytes | memoryview, syntax: str | None = None) -> Header:
    return read_header(parts, "CT01", "RCMED", syntax)


def data_set_of(content: bytes) -> tuple[bytes, bytes]:
    """Preamble with file meta information, and the rest."""
    length = int.from_bytes(content[140:144], "little")
    return content[: 144 + length], content[144 + length :]


@pytest.mark.parametrize(
    "syntax",
    [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian],
)
def test_every_encoding(syntax: str) -> None:
    dataset = sample()
    if syntax == ExplicitVRBigEndian:
        dataset.PixelData = bytes(2048)
    content = encoded(dataset, syntax)
    assert read(content) == expected(dataset, syntax)
    assert read(*data_set_of(content), syntax=syntax) == expected(dataset, syntax)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("before", [True, False])
def test_a_header_longer_than_the_first_look(known: bool, before: bool) -> None:
    """A private element of 400 kB before or behind the UIDs."""
    dataset = sample()
    group = 0x0009 if before else 0x0021
    dataset.add_new((group, 0x0010), "LO", "RCMED TEST")
    dataset.add_new((group, 0x1001), "OB", bytes(400_000))
    content = encoded(dataset)
    parts = data_set_of(content) if known else (content,)
    assert read(*parts, syntax=ExplicitVRLittleEndian if known else None) == expected(dataset, ExplicitVRLittleEndian)


def test_texts_in_other_characters() -> None:
    dataset = sample()
    dataset.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
    dataset.StudyDescription = "頭部"
    content = encoded(dataset)
    assert read(content).facts.study_description == "頭部"
    dataset.SpecificCharacterSet = "ISO_IR 192"
    assert read(*data_set_of(encoded(dataset)), syntax=ExplicitVRLittleEndian).facts.study_description == "頭部"


CONTENT = encoded(sample())
PIXELS = 0x7FE00008
WANTED = frozenset({0x00080005, 0x00080018, 0x0020000D, 0x00321030})  # the last one is not there


def plain() -> Dataset:
    dataset = sample()
    dataset["ReferencedImageSequence"].is_undefined_length = False
    return dataset


PLAIN = {
    is_implicit: data_set_of(encoded(plain(), syntax))[1]
    for is_implicit, syntax in ((False, ExplicitVRLittleEndian), (True, ImplicitVRLittleEndian))
}


@given(st.lists(st.integers(0, len(CONTENT)), max_size=6))
@pytest.mark.slow
def test_pieces_do_not_matter(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(CONTENT)]
    view = memoryview(CONTENT)
    parts: list[Any] = [view[begin:end] for begin, end in zip(places, places[1:], strict=False)]
    assert read(*parts) == read(CONTENT)


@given(st.binary(max_size=300))
def test_what_is_damaged_raises_or_is_read_but_never_hangs(damage: bytes) -> None:
    start, data_set = data_set_of(CONTENT)
    try:
        read(start, data_set[:200] + damage + data_set[260:], syntax=ExplicitVRLittleEndian)
    except Exception as error:
        assert not isinstance(error, MemoryError)


def test_it_reads_what_pydicom_wrote(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(CONTENT)
    assert read(CONTENT) == expected(pydicom.dcmread(path), ExplicitVRLittleEndian)


def wanted_by_pydicom(content: bytes, is_implicit: bool) -> dict[int, bytes]:
    """The elements that are not empty and come before the pixels."""
    elements: Any = data_element_generator(
        BytesIO(content), is_implicit, True, lambda tag, vr, length: tag >= PIXELS, specific_tags=sorted(WANTED)
    )
    return {int(element.tag): element.value for element in elements if element.value}


@pytest.mark.parametrize("is_implicit", [False, True])
@given(place=st.integers(0, 900), damage=st.binary(max_size=40))
def test_skimming_finds_what_pydicom_finds_or_leaves_it_to_it(is_implicit: bool, place: int, damage: bytes) -> None:
    content = PLAIN[is_implicit]
    damaged = content[:place] + damage + content[place + len(damage) :]
    found = skim(damaged, is_implicit, WANTED, PIXELS)
    if found is not None:
        try:
            expected = wanted_by_pydicom(damaged, is_implicit)
        except ValueError:  # the name of a character set that it can't even look for; what was skimmed is read later
            return
        assert {tag: element.value for tag, element in found.items()} == expected


def test_skimming_a_plain_header_needs_no_parser() -> None:
    for is_implicit, content in PLAIN.items():
        found = skim(content, is_implicit, WANTED, PIXELS)
        assert found is not None
        assert {tag: element.value for tag, element in found.items()} == wanted_by_pydicom(content, is_implicit)
        assert set(found) == {0x00080005, 0x00080018, 0x0020000D}


def test_what_is_not_plain_is_not_skimmed() -> None:
    """An undefined length, and a beginning that ends before the pixels."""
    assert skim(data_set_of(CONTENT)[1], False, WANTED, PIXELS) is None
    assert skim(PLAIN[False][:200], False, WANTED, PIXELS) is None
