"""Regions in words: place, side, size and shape."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rcmed.description import describe
from rcmed.description.deterministic import body_side
from rcmed.errors import GridMismatchError
from rcmed.image import Grid, Image, Modality
from rcmed.vocabulary import target_named

LIVER = target_named("liver")
ROWS, COLUMNS = np.mgrid[:120, :120]


def axial_image(slices: int = 1, size: int = 120) -> Image:
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = 3.0, 1.0, 1.0, 1.0
    affine[:3, 3] = -60.0
    grid = Grid((slices, size, size), affine)
    return Image(np.zeros(grid.shape, np.int16), grid, Modality.MR, is_volume=slices > 1)


def ellipse(row: float, column: float, height: float, width: float) -> np.ndarray:
    return (((ROWS - row) / height) ** 2 + ((COLUMNS - column) / width) ** 2 <= 1)[None]


def test_a_round_region():
    text = describe(ellipse(20, 20, 10, 10), axial_image(), LIVER)
    assert text == (
        "Liver: one round region, 317 mm2, up to 21.0 mm across, in the upper left of the image, "
        "towards the patient's right."
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
def test_shape_words(mask, word):
    assert f"one {word} region" in describe(mask, axial_image(), LIVER)


def test_several_parts_are_counted():
    mask = ellipse(20, 20, 10, 10) | ellipse(100, 100, 5, 5)
    assert "2 regions, the largest round" in describe(mask, axial_image(), LIVER)


def test_a_volume_says_its_slices():
    mask = np.repeat(ellipse(60, 60, 20, 20), 9, axis=0)
    mask[[0, 1, 8]] = False
    text = describe(mask, axial_image(9), LIVER)
    assert "cm3" in text and "in the centre of the image" in text and "from slice 3 to 8 of 9" in text
    assert "patient" not in text


def test_without_geometry_no_millimetres_and_no_side():
    grid = Grid.without_geometry(120, 120)
    image = Image(np.zeros((1, 120, 120, 3), np.uint8), grid, Modality.FUNDUS)
    text = describe(ellipse(60, 100, 12, 12), image, target_named("optic disc"))
    assert text == "Optic disc: one round region, 3.1% of the image, in the middle right of the image."


def test_sagittal_slices_name_no_side():
    affine = np.zeros((4, 4))
    affine[0, 0], affine[2, 1], affine[1, 2], affine[3, 3] = 1.0, -1.0, 1.0, 1.0
    grid = Grid((1, 120, 120), affine)
    image = Image(np.zeros(grid.shape, np.int16), grid, Modality.MR)
    assert body_side(ellipse(20, 20, 10, 10), image) is None


def test_an_empty_mask_has_no_words():
    assert describe(np.zeros((1, 120, 120), bool), axial_image(), LIVER) == ""


def test_a_mask_of_another_shape_is_refused():
    with pytest.raises(GridMismatchError):
        describe(np.ones((1, 5, 5), bool), axial_image(), LIVER)


@given(st.floats(5, 114), st.floats(5, 114), st.floats(2, 20), st.floats(2, 20))
def test_a_mirrored_mask_swaps_the_side(row, column, height, width):
    mask = ellipse(row, column, height, width)
    if not mask.any():
        return
    image = axial_image()
    opposite = {"left": "right", "right": "left", None: None}
    assert body_side(np.flip(mask, 2), image) == opposite[body_side(mask, image)]
    swap = str.maketrans({"<": ">", ">": "<"})

    def places(text: str) -> str:
        return text.replace("left", "<").replace("right", ">")

    assert places(describe(np.flip(mask, 2), image, LIVER)) == places(describe(mask, image, LIVER)).translate(swap)


@given(st.floats(30, 90), st.floats(30, 90))
def test_the_same_mask_gives_the_same_words(row, column):
    mask = ellipse(row, column, 14, 9)
    assert describe(mask, axial_image(), LIVER) == describe(mask.copy(), axial_image(), LIVER)
