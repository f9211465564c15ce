"""What is read ahead is what a job would read, is given once, and is let go when the guess was wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dicom_bridge.jobs.reading_ahead import ReadingAhead
from dicom_bridge.results.sources.source import read_source
from dicom_bridge.series.images import read_series


@pytest.fixture
def files(make_ct_series: Any) -> list[Path]:
    return list(make_ct_series(4))


def test_a_series_is_given_once_as_it_would_be_read(files: list[Path]) -> None:
    files[1].write_bytes(files[1].read_bytes()[:400])
    ahead = ReadingAhead(10_000_000)
    ahead.begin([files])
    taken, expected = ahead.take(files), read_series(files)
    assert taken is not None
    assert [str(refusal.reason) for refusal in taken.series.refusals] == [
        str(refusal.reason) for refusal in expected.refusals
    ]
    assert len(taken.series.images) == len(expected.images)
    for image, other in zip(taken.series.images, expected.images, strict=True):
        np.testing.assert_array_equal(image.pixels, other.pixels)
        assert image.sources == other.sources
        known, read = taken.sources.source_of(image), read_source(other)
        assert known.planes == read.planes
        assert known.headers == read.headers
    assert ahead.take(files) is None
    ahead.stop()


def test_what_results_refer_to_is_read_with_the_series(files: list[Path]) -> None:
    ahead = ReadingAhead(10_000_000)
    ahead.begin([files])
    taken = ahead.take(files)
    assert taken is not None
    for file in files:
        file.unlink()
    (image,) = taken.series.images
    assert [header.SOPInstanceUID for header in taken.sources.source_of(image).headers] == [
        source.sop_instance_uid for source in image.sources
    ]
    ahead.stop()


def test_a_wrong_guess_is_let_go(files: list[Path]) -> None:
    ahead = ReadingAhead(10_000_000)
    ahead.begin([files[:-1]])
    assert ahead.take(files) is None
    assert ahead.take(files[:-1]) is None
    ahead.stop()


def test_the_next_study_takes_the_place_of_the_last(files: list[Path]) -> None:
    ahead = ReadingAhead(10_000_000)
    ahead.begin([files[:2]])
    ahead.begin([files[2:], files[:1]])
    assert ahead.take(files[2:]) is not None
    assert ahead.take(files[:1]) is not None
    assert ahead.take(files[:2]) is None
    ahead.stop()


@pytest.mark.parametrize("maximum", [0, 1000])
def test_a_large_study_is_not_read_ahead(files: list[Path], maximum: int) -> None:
    ahead = ReadingAhead(maximum)
    ahead.begin([files])
    assert ahead.take(files) is None
    ahead.stop()


def test_a_file_that_is_gone_is_left_to_the_job(files: list[Path]) -> None:
    files[0].unlink()
    ahead = ReadingAhead(10_000_000)
    ahead.begin([files])
    assert ahead.take(files) is None
    ahead.stop()
