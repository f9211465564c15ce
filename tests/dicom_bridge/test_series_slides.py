"""Slides and other objects in parts: put together as they belong, or refused; what is left out is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset

from dicom_bridge.series.images import read_series
from tests.dicom_bridge.support import slides

generator = np.random.default_rng(5)
PICTURE = generator.integers(0, 255, (40, 56, 3), dtype=np.uint8)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tile=st.tuples(st.integers(7, 41), st.integers(7, 57)),
    order=st.randoms(use_true_random=False),
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=5),
)
def test_the_parts_of_a_slide_make_the_whole_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, tile: tuple[int, int], order: object, lengths: list[int]
) -> None:
    tiles = slides.cut(PICTURE, tile)
    whole = slides.slide(tiles, (40, 56))
    ends = [end for end in np.cumsum(lengths).tolist() if end < len(tiles)]
    parts = slides.parts_of(whole, np.diff([0, *ends, len(tiles)]).tolist())
    paths = slides.save(parts, tmp_path_factory.mktemp("slide"))
    order.shuffle(paths)  # type: ignore[attr-defined]
    reading = read_series(paths)
    (image,) = reading.images
    assert (image.pixels[0] == PICTURE).all() and not reading.refusals
    assert set(image.files) == set(paths) and image.grid.spacing[1:] == (0.0005, 0.0005)
    assert not [line for line in image.warnings if "left out" in line]


def _without(keyword: str) -> Callable[[list[Dataset]], None]:
    def change(parts: list[Dataset]) -> None:
        for part in parts:
            delattr(part, keyword)

    return change


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda parts: parts.pop(0), "(0020,9162)"),
        (lambda parts: parts.pop(), "(0020,9162)"),
        (lambda parts: setattr(parts[1], "InConcatenationNumber", 1), "(0020,9162)"),
        (lambda parts: setattr(parts[1], "ConcatenationFrameOffsetNumber", 5), "(0020,9228)"),
        (lambda parts: setattr(parts[1], "InConcatenationTotalNumber", 4), "(0020,9163)"),
        (lambda parts: setattr(parts[1], "PatientID", "P2"), "(0010,0020)"),
        (lambda parts: setattr(parts[1], "FrameOfReferenceUID", "2.25.44"), "(0020,0052)"),
        (lambda parts: setattr(parts[1], "TotalPixelMatrixRows", 80), "(0048,0007)"),
        (_without("InConcatenationNumber"), "(0020,9162)"),
    ],
)
@pytest.mark.parametrize("kind", ["slide", "enhanced"])
def test_parts_that_do_not_make_a_whole_are_refused(
    change: Callable[[list[Dataset]], None], named: str, kind: str, tmp_path: Path
) -> None:
    if kind == "enhanced" and "(0048" in named:
        pytest.skip("of slides only")
    whole = (
        slides.slide(slides.cut(PICTURE, (10, 14)), (40, 56))
        if kind == "slide"
        else slides.enhanced_ct(np.zeros((16, 8, 9), np.int16))
    )
    parts = slides.parts_of(whole, (6, 6, 4))
    change(parts)
    reading = read_series(slides.save(parts, tmp_path))
    assert not reading.images
    (refusal,) = reading.refusals
    assert len(refusal.paths) == len(parts)
    assert "Concatenation UID (0020,9161)" in str(refusal.reason) and named in str(refusal.reason)


def test_where_nobody_counts_the_parts_it_is_said_and_a_slide_counts_its_tiles(tmp_path: Path) -> None:
    parts = slides.parts_of(slides.slide(slides.cut(PICTURE, (10, 14)), (40, 56)), (6, 6, 4))
    _without("InConcatenationTotalNumber")(parts)
    (image,) = read_series(slides.save(parts, tmp_path / "all")).images
    assert (image.pixels[0] == PICTURE).all() and "(0020,9163)" in " ".join(image.warnings)
    reading = read_series(slides.save(parts[:2], tmp_path / "cut"))
    assert not reading.images and "12 tiles" in str(reading.refusals[0].reason)


@pytest.mark.parametrize("lengths", [(4, 4), (1, 7), (3, 2, 3)])
def test_the_parts_of_an_enhanced_object_make_one_volume(lengths: tuple[int, ...], tmp_path: Path) -> None:
    volume = generator.integers(-1000, 1000, (8, 6, 5)).astype(np.int16)
    volume[:, 0, 0] = -1000
    paths = slides.save(slides.parts_of(slides.enhanced_ct(volume), lengths), tmp_path)
    reading = read_series(reversed(paths))
    (image,) = reading.images
    assert image.is_volume and (image.pixels == volume).all() and not reading.refusals
    numbers = [number for length in lengths for number in range(1, length + 1)]
    assert [source.frame_number or 1 for source in image.sources] == numbers
    wanted = [path for path, length in zip(paths, lengths, strict=True) for _ in range(length)]
    assert [source.path for source in image.sources] == wanted


def test_further_optical_paths_and_focal_planes_are_named(tmp_path: Path) -> None:
    layers = [np.full((40, 56), value, np.uint8) for value in (10, 20, 100, 110)]
    tiles = np.concatenate([slides.cut(layer, (10, 14)) for layer in layers])
    (image,) = read_series(slides.save([slides.slide(tiles, (40, 56), ("DAPI", "FITC"), 2)], tmp_path)).images
    assert (image.pixels == 10).all()
    told = [line for line in image.warnings if "0.dcm" in line]
    assert "2 optical paths" in told[0] and "DAPI" in told[0] and "FITC" in told[0] and "(0048,0105)" in told[0]
    assert "2 focal planes" in told[1] and len(told) == 2


def test_sparse_tiles_of_another_path_or_plane_are_not_mixed_in(tmp_path: Path) -> None:
    tiles = np.stack([np.full((10, 14), value, np.uint8) for value in (1, 2, 3, 4)])
    made = slides.slide(tiles, (20, 28), ("A", "B"))
    slides.sparse(made, [(0, 0, "A", 0.0), (0, 14, "B", 0.0), (10, 0, "A", 0.5), (10, 14, "A", 0.0)])
    (image,) = read_series(slides.save([made], tmp_path)).images
    assert [[int(image.pixels[0, row, column]) for column in (0, 14)] for row in (0, 10)] == [[1, 255], [255, 4]]
    assert "optical paths" in image.warnings[-2] and "focal planes" in image.warnings[-1]


def test_a_slide_that_lacks_tiles_is_refused(tmp_path: Path) -> None:
    tiles = slides.cut(PICTURE, (10, 14))[:-1]
    (refusal,) = read_series(slides.save([slides.slide(tiles, (40, 56))], tmp_path)).refusals
    assert "15 tiles" in str(refusal.reason) and "16" in str(refusal.reason) and "0.dcm" in str(refusal.reason)


def test_empty_glass_of_twelve_bits_is_as_bright_as_twelve_bits_are(tmp_path: Path) -> None:
    made = slides.slide(np.full((1, 10, 14), 7, np.uint8), (10, 28))
    made.BitsAllocated, made.BitsStored, made.HighBit = 16, 12, 11
    made.PixelData = np.full((1, 10, 14), 4000, np.uint16).tobytes()
    slides.sparse(made, [(0, 0, "1", 0.0)])
    (image,) = read_series(slides.save([made], tmp_path)).images
    assert image.pixels.max() == 4095 and (image.pixels[0, :, :14] == 4000).all()


def test_the_thumbnail_beside_a_slide_is_left_out_and_alone_it_is_named(tmp_path: Path) -> None:
    whole = slides.slide(slides.cut(PICTURE, (10, 14)), (40, 56))
    small = slides.slide(PICTURE[None, ::4, ::4], (10, 14))
    small.ImageType = ["DERIVED", "PRIMARY", "THUMBNAIL", "RESAMPLED"]
    paths = slides.save([small, whole], tmp_path)
    reading = read_series(paths)
    assert len(reading.images) == 1 and (reading.images[0].pixels[0] == PICTURE).all()
    assert reading.refusals[0].left_out and "thumbnail" in str(reading.refusals[0].reason)
    (image,) = read_series(paths[:1]).images
    assert "thumbnail" in " ".join(image.warnings)
