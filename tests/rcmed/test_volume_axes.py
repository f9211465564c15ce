"""Volumes are cut in the planes that the model was shown."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rcmed.modality import Modality
from rcmed.readers.volume_axes import slicing_axes

SHAPE = (30, 27, 48)


def stored(order: tuple[int, ...], signs: tuple[int, ...], spacing: tuple[float, ...]) -> NDArray[np.float64]:
    """Affine of a file whose axis k runs along the patient axis (L, P, S) `order[k]`; spacing by patient axis."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (patient, sign) in enumerate(zip(order, signs, strict=True)):
        affine[patient, axis] = sign * spacing[patient]
    return affine


@given(
    order=st.sampled_from(list(permutations(range(3)))),
    signs=st.sampled_from(list(product((1, -1), repeat=3))),
    modality=st.sampled_from([Modality.CT, Modality.PET]),
    spacing=st.sampled_from([(5.47, 5.47, 3.27), (4.0, 4.0, 2.0), (0.7, 0.7, 5.0), (1.5, 1.5, 1.5), (1.0, 2.0, 1.0)]),
)
def test_ct_and_pet_are_read_axially(
    order: tuple[int, ...], signs: tuple[int, ...], modality: Modality, spacing: tuple[float, ...]
) -> None:
    axes = slicing_axes(SHAPE, stored(order, signs, spacing), modality)
    assert [order[axis] for axis in axes] == [2, 1, 0], "slices head-feet, rows front-back, columns left-right"


@pytest.mark.parametrize(
    ("modality", "spacing", "slices_along"),
    [
        (Modality.MR, (0.9, 0.9, 3.3), 2),
        (Modality.MR, (3.3, 0.9, 0.9), 0),
        (Modality.MR, (0.9, 4.0, 0.9), 1),
        (Modality.MR, (1.0, 1.0, 1.0), 2),
        (Modality.ULTRASOUND, (0.5, 0.5, 0.2), 1),
        (Modality.CT, (0.7, 5.0, 0.7), 1),
    ],
    ids=["axial", "sagittal", "coronal", "isotropic", "ultrasound", "coronal reformat of a CT"],
)
def test_else_volumes_are_read_as_acquired(modality: Modality, spacing: tuple[float, ...], slices_along: int) -> None:
    for order in permutations(range(3)):
        axes = slicing_axes(SHAPE, stored(order, (1, 1, 1), spacing), modality)
        if modality is Modality.ULTRASOUND:
            assert spacing[order[axes[0]]] == 0.5
        else:
            assert order[axes[0]] == slices_along


def test_a_tilted_gantry_and_a_single_slice() -> None:
    tilted = stored((0, 1, 2), (1, 1, 1), (0.7, 0.7, 5.0))
    tilted[1, 2] = 5.0 * np.tan(np.radians(20))
    assert slicing_axes(SHAPE, tilted, Modality.CT) == (2, 1, 0)
    assert slicing_axes((30, 1, 48), stored((0, 1, 2), (1, 1, 1), (1.0, 1.0, 1.0)), Modality.CT)[0] == 1
