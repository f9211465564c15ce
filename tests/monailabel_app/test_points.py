from __future__ import annotations

import numpy as np
import pytest

from monailabel_app.tasks.points import GridPointing, PointMemory, as_hints, choose_parts, on_grid
from monailabel_app.tasks.question import Pointing
from rcmed.errors import InputError
from rcmed.image import Grid, Image
from rcmed.modality import Modality

MASK = np.zeros((3, 10, 10), bool)
MASK[0:2, 1:3, 1:3] = True
MASK[1, 6:9, 6:9] = True


def test_parts_that_clicks_touch_stay_and_those_beside_go() -> None:
    first, second = MASK.copy(), MASK.copy()
    first[:, 5:], second[:, :5] = False, False
    assert np.array_equal(choose_parts(MASK, GridPointing(inside=((0, 1, 1),))), first)
    assert np.array_equal(choose_parts(MASK, GridPointing(outside=((0, 1, 1),))), second)
    assert not choose_parts(MASK, GridPointing(inside=((0, 1, 1),), outside=((1, 2, 2),))).any()
    assert not choose_parts(MASK, GridPointing(inside=((2, 5, 5),))).any()
    assert np.array_equal(choose_parts(MASK, GridPointing()), MASK)


def test_a_box_cuts() -> None:
    cut = choose_parts(MASK, GridPointing(box=((1, 1), (0, 7), (0, 9))))
    assert np.array_equal(np.argwhere(cut).max(0), [1, 7, 8]) and np.argwhere(cut).min(0)[0] == 1


def test_file_voxels_become_indices_by_the_files_axes() -> None:
    shape = (3, 4, 5)
    grid = Grid(shape, np.eye(4))
    dicom = Image(np.zeros(shape), grid, Modality.CT)
    assert on_grid(Pointing(inside=((4, 3, 2),)), dicom).inside == ((2, 3, 4),)
    sagittal = Image(np.zeros(shape), grid, Modality.CT, file_axes=(0, 2, 1))
    assert on_grid(Pointing(inside=((2, 4, 3),)), sagittal).inside == ((2, 3, 4),)
    assert on_grid(Pointing(box=((0, 2), (3, 9), (1, 2))), sagittal).box == ((0, 2), (1, 2), (3, 4))
    with pytest.raises(InputError, match="5 x 4 x 3"):
        on_grid(Pointing(outside=((5, 0, 0),)), dicom)
    with pytest.raises(InputError, match="box"):
        on_grid(Pointing(box=((7, 9), (0, 1), (0, 1))), dicom)


def test_hints_lie_in_their_slices() -> None:
    hints = as_hints(GridPointing(inside=((1, 2, 3),), outside=((0, 4, 5),), box=((1, 2), (0, 6), (1, 7))))
    assert sorted(hints) == [0, 1, 2]
    assert hints[1].inside == ((2.0, 3.0),) and hints[1].box == (0.0, 1.0, 6.0, 7.0)
    assert hints[0].outside == ((4.0, 5.0),) and hints[0].box is None


def test_points_of_an_earlier_run_are_told_from_new_ones() -> None:
    memory = PointMemory()
    points = Pointing(inside=((1, 2, 3),))
    assert not memory.is_stale(points, "a", ("liver",))
    assert not memory.is_stale(points, "a", ("liver",))
    assert memory.is_stale(points, "a", ("spleen",))
    assert memory.is_stale(points, "b", ("liver",))
    assert not memory.is_stale(Pointing(inside=((1, 2, 4),)), "b", ("liver",))
    assert not memory.is_stale(Pointing(), "b", ("liver",))
