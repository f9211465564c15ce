"""Regions in words: shape, size, place, side, looks and relations."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rcmed.codes import Code
from rcmed.description import LONGEST_DESCRIPTION, DeterministicDescriber, describe_findings
from rcmed.description.describer import shortened
from rcmed.description.painting import PALETTE, paint_regions
from rcmed.errors import GridMismatchError
from rcmed.findings import Finding, FindingStatus
from rcmed.image import Grid, Image
from rcmed.modality import Modality
from rcmed.vocabulary.table import Target

ROWS, COLUMNS = np.mgrid[:120, :120]
DESCRIBER = DeterministicDescriber()
SWAPPED = {"left": "right", "right": "left"}


def axial_image(slices: int = 1, size: int = 120, spacing: float = 1.0, pixels: np.ndarray | None = None) -> Image:
    affine = np.diag([0.0, 0.0, 0.0, 1.0])
    affine[2, 0], affine[1, 1], affine[0, 2] = 3.0 * spacing, spacing, spacing
    affine[:3, 3] = -60.0
    grid = Grid((slices, size, size), affine)
    pixels = np.zeros(grid.shape, np.int16) if pixels is None else pixels
    return Image(pixels, grid, Modality.MR, is_volume=slices > 1)


def photograph(rows: int = 120, columns: int = 120) -> Image:
    return Image(np.zeros((1, rows, columns, 3), np.uint8), Grid.without_geometry(rows, columns), Modality.FUNDUS)


def ellipse(row: float, column: float, height: float, width: float) -> np.ndarray:
    return (((ROWS - row) / height) ** 2 + ((COLUMNS - column) / width) ** 2 <= 1)[None]


def describe(mask: np.ndarray, image: Image, name: str = "liver", **others: np.ndarray) -> str:
    return DESCRIBER.describe(image, {name: mask, **others})[name]


def swap_sides(text: str) -> str:
    return re.sub(r"\b(left|right)\b", lambda found: SWAPPED[found.group()], text)


def test_a_round_region() -> None:
    assert describe(ellipse(20, 20, 10, 10), axial_image()) == (
        "Liver: one round region, 317 mm2, up to 21.0 mm across, in the upper left of the image, "
        "towards the patient's right. Its border is indistinct and smooth. It is as bright as its surroundings."
    )


@pytest.mark.parametrize(
    ("mask", "word"),
    [
        (ellipse(60, 60, 10, 18), "oval"),
        (ellipse(60, 60, 6, 40), "elongated"),
        (ellipse(60, 60, 1, 1), "dot-like"),
        (ellipse(60, 60, 30, 30) & ~ellipse(70, 60, 31, 12), "irregular"),
        (((np.abs(ROWS - 60) < 2) | (np.abs(COLUMNS - 60) < 2))[None], "branching"),
    ],
)
def test_shape_words(mask: np.ndarray, word: str) -> None:
    assert f"one {word} region" in describe(mask, axial_image())


def test_what_runs_through_the_slices_is_elongated_though_round_in_each() -> None:
    tube = np.repeat(ellipse(60, 60, 6, 6), 30, axis=0)
    assert "one elongated region" in describe(tube, axial_image(30))
    assert "one round region" in describe(tube[:1], axial_image())


def test_outlines() -> None:
    angle = np.arctan2(ROWS - 60, COLUMNS - 60)
    distance = np.hypot(ROWS - 60, COLUMNS - 60)

    def star(depth: float) -> np.ndarray:
        return (distance <= 40 * (1 + depth * np.cos(9 * angle)))[None]

    for depth, word in ((0.0, "smooth"), (0.12, "lobulated"), (0.35, "jagged")):
        assert f"Its border is indistinct and {word}." in describe(star(depth), axial_image())
    hollow = star(0.0) & (distance > 20)[None]
    assert "and smooth." in describe(hollow, axial_image())


def test_several_parts_are_counted() -> None:
    mask = ellipse(20, 20, 10, 10) | ellipse(100, 100, 5, 5)
    assert "2 regions, the largest round, 398 mm2, spread over 129 mm, in the" in describe(mask, axial_image())


def test_a_volume_says_its_slices() -> None:
    mask = np.repeat(ellipse(60, 60, 20, 20), 9, axis=0)
    mask[[0, 1, 8]] = False
    text = describe(mask, axial_image(9))
    assert "22.6 ml, up to 41.0 mm across in a slice, in the centre of the image, from slice 3 to 8 of 9" in text
    assert "patient" not in text


def test_without_geometry_pixels_and_no_side() -> None:
    text = describe(ellipse(60, 100, 12, 12), photograph(), "optic disc")
    assert text.startswith(
        "Optic disc: one round region, 441 pixels (3.1% of the image), up to 25.0 pixels across, "
        "in the middle right of the image."
    )


def test_sagittal_slices_name_no_side() -> None:
    affine = np.zeros((4, 4))
    affine[0, 0], affine[2, 1], affine[1, 2], affine[3, 3] = 1.0, -1.0, 1.0, 1.0
    grid = Grid((1, 120, 120), affine)
    image = Image(np.zeros(grid.shape, np.int16), grid, Modality.MR)
    assert "patient" not in describe(ellipse(20, 20, 10, 10), image)


def test_looks_against_the_surroundings() -> None:
    noise = np.random.default_rng(3).normal(0, 1, (1, 120, 120))
    disc = ellipse(60, 60, 25, 25)
    depth = 25 - np.hypot(ROWS - 60, COLUMNS - 60)[None]

    def looks(pixels: np.ndarray) -> str:
        return describe(disc, axial_image(pixels=pixels))

    assert "Its border is sharp and smooth. It is much brighter than its surroundings" in looks(10.0 * disc + noise)
    assert "It is much darker than its surroundings" in looks(-10.0 * disc + noise)
    assert "It is darker than its surroundings" in looks(-0.8 * disc + noise)
    assert "Its border is blurred and smooth. It is much brighter" in looks(np.clip(depth / 3, -5, 5) + noise / 10)
    assert "as bright as its surroundings, with a similar texture" in looks(noise)
    assert "with a coarser texture" in looks(noise * (1 + 2 * disc))
    assert "with a finer texture" in looks(noise * (1 - 0.7 * disc))


def test_pixels_that_are_no_numbers_and_colours_are_looked_at() -> None:
    disc = ellipse(60, 60, 25, 25)
    grey = 10.0 * disc
    grey[:, :40] = np.nan
    assert "much brighter than its surroundings" in describe(disc, axial_image(pixels=grey))
    image = photograph()
    image.pixels[disc] = (255, 0, 0)
    assert "much brighter than its surroundings" in describe(disc, image)


def test_relations() -> None:
    lung = ellipse(60, 60, 50, 50)
    tumor = ellipse(60, 40, 8, 8)
    heart = ellipse(60, 80, 15, 15)
    texts = DESCRIBER.describe(photograph(), {"lung": lung, "tumor": tumor, "heart": heart})
    assert texts["tumor"].endswith("It lies inside the lung and lies to the left of the heart.")
    assert texts["heart"].endswith("It lies inside the lung and lies to the right of the tumor.")
    assert texts["lung"].endswith("It contains the heart and the tumor.")


def test_relations_of_masks_that_share_no_pixel() -> None:
    core, whole = ellipse(60, 60, 10, 10), ellipse(60, 60, 20, 20)
    beside = (ROWS > 80)[None] & (ROWS < 90)[None] & (np.abs(COLUMNS - 60) < 10)[None]
    texts = DESCRIBER.describe(photograph(), {"core": core, "rim": whole & ~core, "bar": beside})
    assert "It is surrounded by the rim and lies above the bar." in texts["core"]
    assert "It surrounds the core and is adjacent to the bar." in texts["rim"]
    assert "It is adjacent to the rim and lies below the core." in texts["bar"]


def test_relations_overlapping_and_the_same() -> None:
    one, other = ellipse(60, 50, 20, 20), ellipse(60, 75, 20, 20)
    assert describe(one, photograph(), other=other).endswith("It overlaps the other.")
    assert describe(one, photograph(), other=one.copy()).endswith("It is about the same region as the other.")


@pytest.mark.parametrize(
    ("axis", "sign", "words"),
    [
        (0, 1, "lies to the patient's left of"),
        (0, -1, "lies to the patient's right of"),
        (1, 1, "lies behind"),
        (1, -1, "lies in front of"),
        (2, 1, "lies above"),
        (2, -1, "lies below"),
    ],
)
def test_directions_are_those_of_the_patient(axis: int, sign: int, words: str) -> None:
    affine = np.diag([0.0, 0.0, 0.0, 1.0])
    affine[axis, 2] = sign
    affine[(axis + 1) % 3, 1] = affine[(axis + 2) % 3, 0] = 1
    grid = Grid((1, 120, 120), affine)
    image = Image(np.zeros(grid.shape, np.int16), grid, Modality.MR)
    one, other = ellipse(60, 90, 9, 9), ellipse(60, 20, 9, 9)
    assert describe(one, image, other=other).endswith(f"It {words} the other.")


def test_few_relations_are_told_of_many_regions() -> None:
    masks = {f"target {i}": ellipse(60, 6 + 5 * i, 2, 2) for i in range(20)}  # each touches the next
    texts = DESCRIBER.describe(photograph(), masks)
    assert texts["target 9"].endswith(
        "It is adjacent to the target 10 and the target 8, lies to the left of the target 11 and lies to the right of "
        "the target 7."
    )
    assert max(map(len, texts.values())) <= LONGEST_DESCRIPTION


def test_an_empty_mask_has_no_words() -> None:
    assert describe(np.zeros((1, 120, 120), bool), axial_image()) == ""


def test_a_mask_of_another_shape_is_refused() -> None:
    with pytest.raises(GridMismatchError):
        describe(np.ones((1, 5, 5), bool), axial_image())


def test_a_region_that_fills_the_image() -> None:
    assert describe(np.ones((1, 120, 120), bool), photograph()) == (
        "Liver: one round region, 14400 pixels (100% of the image), up to 169 pixels across, in the centre of the "
        "image. Its outline is smooth."
    )


PLACES = st.tuples(st.floats(5, 114), st.floats(5, 114), st.floats(2, 20), st.floats(2, 20))
NOISE = np.random.default_rng(0).integers(0, 50, (1, 120, 120)).astype(np.int16)


@settings(max_examples=30)
@given(st.lists(PLACES, min_size=1, max_size=4), st.booleans())
def test_mirrored_masks_swap_sides_and_nothing_else(places: list[tuple[float, ...]], in_patient: bool) -> None:
    masks = {f"target {i}": ellipse(*place) for i, place in enumerate(places)}
    pixels = NOISE + sum(40 * (i + 1) * mask for i, mask in enumerate(masks.values())).astype(np.int16)
    image, mirrored = axial_image(pixels=pixels), axial_image(pixels=np.flip(pixels, 2).copy())
    if not in_patient:
        grid = Grid.without_geometry(120, 120)
        image, mirrored = (Image(each.pixels, grid, Modality.FUNDUS) for each in (image, mirrored))
    texts = DESCRIBER.describe(image, masks)
    flipped = DESCRIBER.describe(mirrored, {name: np.flip(mask, 2) for name, mask in masks.items()})
    assert {name: swap_sides(text) for name, text in texts.items()} == flipped


def numbers(text: str, unit: str) -> float:
    found = re.search(rf"([\d.e+]+) {unit}", text)
    assert found is not None, text
    return float(found.group(1))


@settings(max_examples=40)
@given(PLACES, st.sampled_from([2, 3]))
def test_a_scaled_mask_scales_sizes(place: tuple[float, ...], scale: int) -> None:
    mask = ellipse(*place)
    larger = np.kron(mask, np.ones((1, scale, scale), dtype=bool))
    small = describe(mask, photograph())
    large = describe(larger, photograph(120 * scale, 120 * scale))
    assert numbers(large, "pixels") == scale**2 * numbers(small, "pixels")
    assert numbers(large, "pixels across") == pytest.approx(scale * numbers(small, "pixels across"), abs=scale)
    place_words = re.compile("in the .* of the image")
    assert place_words.findall(small) == place_words.findall(large)


@given(PLACES, st.floats(0.2, 9))
@pytest.mark.slow
def test_a_coarser_grid_scales_millimetres(place: tuple[float, ...], spacing: float) -> None:
    flat = ellipse(*place)
    one, other = describe(flat, axial_image()), describe(flat, axial_image(spacing=spacing))
    assert numbers(other, "mm2") == pytest.approx(spacing**2 * numbers(one, "mm2"), rel=0.06)
    assert numbers(other, "mm across") == pytest.approx(spacing * numbers(one, "mm across"), rel=0.06)
    deep = np.repeat(flat, 5, axis=0)
    one, other = describe(deep, axial_image(5)), describe(deep, axial_image(5, spacing=spacing))
    assert numbers(other, "ml") == pytest.approx(spacing**3 * numbers(one, "ml"), rel=0.11)


@given(PLACES)
def test_the_same_mask_gives_the_same_words(place: tuple[float, ...]) -> None:
    mask = ellipse(*place)
    assert describe(mask, axial_image()) == describe(mask.copy(), axial_image())


CODE = Code("1", "99RCMED", "thing")


def test_findings_are_described_once_all_are_known() -> None:
    def target(name: str) -> Target:
        return Target(name, (), CODE, CODE, None, None, (200, 100, 0), (Modality.FUNDUS,))

    findings = [
        Finding("a", target("disc"), FindingStatus.FOUND, 0.9, ellipse(60, 30, 9, 9)),
        Finding("b", target("nothing"), FindingStatus.ABSENT, 0.1),
        Finding("c", None, FindingStatus.UNRESOLVED, reason="unknown"),
        Finding("d", target("cup"), FindingStatus.UNCERTAIN, 0.5, ellipse(60, 30, 4, 4)),
    ]
    described = describe_findings(photograph(), findings, DESCRIBER)
    assert [f.prompt for f in described] == ["a", "b", "c", "d"]
    assert described[0].description.endswith("It contains the cup.")
    assert described[3].description.endswith("It lies inside the disc.")
    assert described[1] is findings[1] and described[2] is findings[2]


@given(st.text(max_size=3000))
def test_descriptions_are_one_paragraph_of_bounded_length(text: str) -> None:
    short = shortened(text)
    assert len(short) <= LONGEST_DESCRIPTION and "\n" not in short


def test_regions_are_painted_in_their_colours() -> None:
    red, green = PALETTE[0], PALETTE[1]
    one, other = ellipse(60, 30, 20, 20), ellipse(60, 90, 20, 20)
    image = axial_image(pixels=np.full((1, 120, 120), 100, np.int16))
    picture = paint_regions(image, [(one, red.rgb), (other, green.rgb)], 0)
    plain = paint_regions(image, [], 0)
    assert np.array_equal(picture[~(one | other)[0]], plain[~(one | other)[0]])
    assert tuple(picture[60, 10]) == red.rgb and tuple(picture[60, 110]) == green.rgb
    assert len({colour.name for colour in PALETTE}) == len({colour.rgb for colour in PALETTE}) == len(PALETTE)
