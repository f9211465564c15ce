"""Boxes and measurements: known shapes, scaled spacing, turned grids."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rcmed.errors import GridMismatchError
from rcmed.image import UNKNOWN_UNIT, Grid, Image
from rcmed.measurements import MAXIMUM_BOXES, find_boxes, find_parts, measure, written
from rcmed.modality import Modality


def axial_grid(shape: tuple[int, int, int], spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Grid:
    """Axial slices: columns towards the left, rows towards the back, slices towards the head."""
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = *spacing, 1.0
    return Grid(shape, affine)


def image_on(grid: Grid, modality: Modality = Modality.MR, is_volume: bool | None = None) -> Image:
    volume = grid.shape[0] > 1 if is_volume is None else is_volume
    return Image(np.zeros(grid.shape, np.int16), grid, modality, is_volume=volume)


def named(measurements) -> dict:
    return {m.name: m for m in measurements}


def test_volume_of_a_block():
    mask = np.zeros((10, 20, 20), bool)
    mask[2:7, 3:13, 4:14] = True
    (volume,) = measure(mask, image_on(axial_grid(mask.shape, (2.0, 1.0, 1.0))))
    assert (volume.name, volume.unit, volume.code.value) == ("volume", "cm3", "118565006")
    assert volume.value == pytest.approx(1.0)


def test_small_volume_stays_in_cubic_millimetres():
    mask = np.zeros((4, 4, 4), bool)
    mask[1, 1, 1:3] = True
    (volume,) = measure(mask, image_on(axial_grid(mask.shape, (2.0, 0.5, 0.5))))
    assert (volume.value, volume.unit) == (pytest.approx(1.0), "mm3")


def test_area_and_diameter_of_a_strip():
    mask = np.zeros((1, 40, 40), bool)
    mask[0, 5, 10:20] = True
    found = named(measure(mask, image_on(axial_grid(mask.shape, (5.0, 0.5, 0.5)))))
    assert found["area"].value == pytest.approx(2.5)
    assert found["area"].unit == "mm2"
    assert found["longest diameter"].value == pytest.approx(5.0)
    assert found["longest diameter"].unit == "mm"


def test_diameter_of_a_disc():
    rows, columns = np.mgrid[:101, :101]
    mask = ((rows - 50) ** 2 + (columns - 50) ** 2 <= 40**2)[None]
    found = named(measure(mask, image_on(axial_grid(mask.shape))))
    assert found["longest diameter"].value == pytest.approx(80, abs=1.5)
    assert found["area"].value == pytest.approx(np.pi * 40**2, rel=0.01)


def test_frames_of_a_loop_are_no_volume():
    mask = np.zeros((3, 10, 10), bool)
    mask[0, :2, :2] = mask[1, :4, :5] = True
    found = named(measure(mask, image_on(axial_grid(mask.shape), is_volume=False)))
    assert set(found) == {"area", "longest diameter"}
    assert found["area"].value == pytest.approx(20)


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [(189612.0, "{pixels}", "189,612 pixels"), (3.2714, "cm3", "3.27 cm³"), (-112.4, "[hnsf'U]", "-112 HU")],
)
def test_a_value_is_written_as_people_do(value: float, unit: str, said: str) -> None:
    assert written(value, unit) == said


def test_without_millimetres_only_pixels_are_counted():
    grid = Grid.without_geometry(8, 8)
    mask = np.zeros(grid.shape, bool)
    mask[0, 2:4, 2:5] = True
    (count,) = measure(mask, Image(np.zeros((1, 8, 8, 3), np.uint8), grid, Modality.FUNDUS))
    assert (count.value, count.unit) == (6.0, "{pixels}")


def test_mean_attenuation_only_in_hounsfield_units():
    grid = axial_grid((1, 4, 4))
    mask = np.zeros(grid.shape, bool)
    mask[0, 0, :2] = True
    pixels = np.full(grid.shape, -1000, np.int16)
    pixels[0, 0, :2] = [40, 61]
    mean = named(measure(mask, Image(pixels, grid, Modality.CT)))["mean attenuation"]
    assert (mean.value, mean.unit) == (50.5, "[hnsf'U]")
    assert mean.derivation is not None and mean.derivation.value == "373098007"
    assert "mean attenuation" not in named(measure(mask, Image(pixels, grid, Modality.MR)))
    window = np.zeros(grid.shape, np.uint8)
    assert "mean attenuation" not in named(measure(mask, Image(window, grid, Modality.CT)))
    assert "mean attenuation" not in named(measure(mask, Image(pixels, grid, Modality.CT, unit=UNKNOWN_UNIT)))


def test_an_empty_mask_measures_nothing():
    image = image_on(axial_grid((3, 4, 5)))
    empty = np.zeros((3, 4, 5), bool)
    assert measure(empty, image) == ()
    assert find_boxes(empty) == ()


def test_a_mask_of_another_shape_is_refused():
    with pytest.raises(GridMismatchError):
        measure(np.zeros((3, 4, 4), bool), image_on(axial_grid((3, 4, 5))))


def test_boxes_come_largest_first_and_touch_at_corners():
    mask = np.zeros((4, 10, 10), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = True
    mask[2:4, 6:9, 5] = True
    boxes = find_boxes(mask)
    assert [(b.first, b.last) for b in boxes] == [((2, 6, 5), (3, 8, 5)), ((0, 0, 0), (1, 1, 1))]


def test_boxes_are_limited():
    mask = np.zeros((1, 20, 20), bool)
    mask[0, ::2, ::2] = True
    assert len(find_boxes(mask)) == MAXIMUM_BOXES
    assert len(find_parts(mask).sizes) == 100


masks = st.tuples(st.integers(1, 3), st.integers(2, 9), st.integers(2, 9), st.integers(0, 2**32 - 1)).map(
    lambda drawn: np.random.default_rng(drawn[3]).random(drawn[:3]) < 0.3
)


@given(masks)
def test_parts_add_up_to_the_mask(mask):
    parts = find_parts(mask)
    together = np.zeros(mask.shape, int)
    for index, (size, box) in enumerate(zip(parts.sizes, parts.boxes, strict=True)):
        part = parts.mask(index)
        assert part.sum() == size
        where = np.argwhere(part)
        assert (tuple(where.min(0)), tuple(where.max(0))) == (box.first, box.last)
        together += part
    assert (together == mask).all()
    assert list(parts.sizes) == sorted(parts.sizes, reverse=True)


@given(masks, st.floats(0.1, 8.0))
def test_scaled_spacing_scales_sizes(mask, factor):
    grid = axial_grid(mask.shape, (3.0, 0.7, 0.7))
    scaled = axial_grid(mask.shape, (3.0 * factor, 0.7 * factor, 0.7 * factor))
    power = {"area": 2, "longest diameter": 1, "volume": 3}
    before, after = named(measure(mask, image_on(grid))), named(measure(mask, image_on(scaled)))
    assert set(before) == set(after)
    for name, measurement in before.items():
        larger = after[name]
        cubic = {"cm3": 1000.0}
        first = measurement.value * cubic.get(measurement.unit, 1.0)
        second = larger.value * cubic.get(larger.unit, 1.0)
        assert second == pytest.approx(first * factor ** power[name], rel=1e-6)


@given(masks, st.integers(0, 2))
def test_mirrored_mask_has_the_same_sizes(mask, axis):
    image = image_on(axial_grid(mask.shape, (3.0, 0.7, 0.9)))
    before = [(m.name, m.unit, pytest.approx(m.value)) for m in measure(mask, image) if m.name != "longest diameter"]
    after = [(m.name, m.unit, m.value) for m in measure(np.flip(mask, axis), image) if m.name != "longest diameter"]
    assert after == before


@given(st.floats(-3.0, 3.0), st.integers(2, 30))
def test_turned_grid_keeps_the_diameter(angle, length):
    mask = np.zeros((1, 40, 40), bool)
    mask[0, 3:9, 4 : 4 + length] = True
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    turn[:3, 3] = [10, -20, 30]
    straight = axial_grid(mask.shape, (1.0, 0.6, 0.8))
    turned = Grid(mask.shape, turn @ straight.affine)
    before, after = (named(measure(mask, image_on(grid))) for grid in (straight, turned))
    assert after["longest diameter"].value == pytest.approx(before["longest diameter"].value, abs=1e-9)
    assert after["area"].value == pytest.approx(before["area"].value)
