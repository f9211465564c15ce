"""The parts of a multipart body, however it is cut and whatever stands around them (RFC 2046, 5.1.1)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_bridge.web.multipart import MultipartError, PartSplitter

CONTENTS = st.lists(
    st.binary(max_size=40) | st.sampled_from([b"--b", b"\r\n--", b"\r\n--bc\r\n", b"\r\n\r\n"]), max_size=4
)


def split(body: bytes, cuts: list[int], boundary: str = "b", maximum: int = 1000) -> tuple[list[bytes | None], bool]:
    splitter = PartSplitter(boundary, maximum)
    found: list[bytes | None] = []
    places = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    for start, end in zip(places, places[1:], strict=False):
        found += [None if part is None else bytes(part) for part in splitter.feed(body[start:end])]
    return found, splitter.is_complete


@given(
    contents=CONTENTS,
    headers=st.sampled_from([b"", b"Content-Type: application/dicom\r\n", b"A: b\r\nC: d\r\n"]),
    preamble=st.sampled_from([b"", b"\r\n", b"to be ignored\r\n", b"--bc\r\n"]),
    padding=st.sampled_from([b"", b" ", b" \t  "]),
    epilogue=st.sampled_from([b"", b"\r\n", b"\r\nto be ignored", b"\r\n--b\r\n\r\nx"]),
    cuts=st.lists(st.integers(0, 1000), max_size=8),
)
def test_what_is_put_together_comes_apart(
    contents: list[bytes], headers: bytes, preamble: bytes, padding: bytes, epilogue: bytes, cuts: list[int]
) -> None:
    start = b"--b" + padding + b"\r\n" + headers + b"\r\n"
    parts = [start + content for content in contents]
    body = preamble + b"\r\n".join([*parts, b"--b--"]) + epilogue
    assert split(body, cuts) == (contents, True)


@given(cuts=st.lists(st.integers(0, 1000), max_size=8))
def test_a_part_that_is_too_large_is_dropped_and_the_next_is_not(cuts: list[int]) -> None:
    body = b"--b\r\n\r\n" + bytes(11) + b"\r\n--b\r\n\r\n" + bytes(10) + b"\r\n--b--"
    assert split(body, cuts, maximum=10) == ([None, bytes(10)], True)


@pytest.mark.parametrize(
    "body", [b"", b"no boundary", b"--b\r\n\r\nhalf", b"--b\r\n\r\nhalf\r\n--b", b"--b" + b" " * 5000]
)
def test_what_does_not_end_is_not_complete(body: bytes) -> None:
    assert split(body, [3]) == ([], False)


def test_headers_without_an_end_are_refused() -> None:
    with pytest.raises(MultipartError, match="do not end"):
        split(b"--b\r\n" + b"A: b\r\n" * 20_000, [])
