"""Slices are shown to the model as a radiologist sees them, however they are stored, and masks go back exactly."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rcmed.image import Grid
from rcmed.inference.viewing import ReaderView

ORDERS = list(itertools.permutations(range(3)))
# What a display shows: (slice, row, column) directions in LPS for axial, sagittal and coronal slices.
DISPLAYED = {
    "axial": ((0, 0, 1), (0, 1, 0), (1, 0, 0)),
    "sagittal": ((1, 0, 0), (0, 0, -1), (0, 1, 0)),
    "coronal": ((0, 1, 0), (0, 0, -1), (1, 0, 0)),
}


def affine_of(slices: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = slices, rows, columns
    return affine


@settings(max_examples=60, deadline=None)
@given(
    plane=st.sampled_from(sorted(DISPLAYED)),
    transposed=st.booleans(),
    reversals=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    tilt=st.floats(-0.3, 0.3),
)
def test_however_stored_the_view_is_the_display(
    plane: str, transposed: bool, reversals: tuple[bool, bool, bool], tilt: float
) -> None:
    turn = np.array([[np.cos(tilt), -np.sin(tilt), 0], [np.sin(tilt), np.cos(tilt), 0], [0, 0, 1]])
    directions = [turn @ np.array(direction, dtype=float) for direction in DISPLAYED[plane]]
    displayed = np.arange(2 * 3 * 5).reshape(2, 3, 5)
    stored = displayed
    for axis, is_reversed in enumerate(reversals):
        if is_reversed:
            stored = np.flip(stored, axis)
            directions[axis] = -directions[axis]
    if transposed:
        stored = stored.swapaxes(1, 2)
        directions[1], directions[2] = directions[2], directions[1]
    view = ReaderView.of(Grid(stored.shape, affine_of(*directions)))
    shown = view.to_view(stored)
    # The order of the slices is not the view's business.
    assert np.array_equal(np.flip(shown, 0) if reversals[0] else shown, displayed)
    assert np.array_equal(view.from_view(shown), stored)


@pytest.mark.parametrize("colour", [False, True])
def test_without_a_place_in_the_patient_nothing_is_turned(colour: bool) -> None:
    view = ReaderView.of(Grid.without_geometry(4, 6))
    pixels = np.zeros((1, 4, 6, 3) if colour else (1, 4, 6))
    assert view == ReaderView()
    assert view.to_view(pixels).shape == pixels.shape
