"""CT slices are seen cut to the body where the frame holds much air; masks come back onto the frame."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rcmed.image import Grid, Image
from rcmed.inference.body_crop import Box, body_boxes, onto_frame
from rcmed.inference.packed_logits import HIGHEST
from rcmed.modality import Modality
from rcmed.model.processor import to_image_grid, to_model_grid

SIZE, STRIDE = 256, 2


def head_above_shoulders(slices: int = 40, edge: int = 200) -> NDArray[np.int16]:
    """HU of a body of which the lower half is as wide as the frame, with a table below it."""
    rng = np.random.default_rng(0)
    voxels = np.full((slices, edge, edge), -1000, dtype=np.int16)
    voxels[: slices // 2, 60:140, 70:130] = 40
    voxels[slices // 2 :, 60:140, 10:190] = 40
    voxels[:, 160:162, 5:195] = 300
    return (voxels + rng.integers(-20, 20, voxels.shape)).astype(np.int16)


def as_volume(voxels: NDArray[np.int16], distance_mm: float = 5.0) -> Image:
    slices, rows, columns = voxels.shape
    # Columns to the patient's left, rows to the back, slices to the head.
    affine = np.zeros((4, 4))
    affine[0, 2] = affine[1, 1] = 1.0
    affine[2, 0], affine[3, 3] = distance_mm, 1.0
    return Image(voxels, Grid((slices, rows, columns), affine), Modality.CT, is_volume=True)


def test_the_head_is_cut_out_and_the_shoulders_stay_as_they_are() -> None:
    boxes = body_boxes(as_volume(head_above_shoulders()), 0.7)
    head = boxes[5]
    assert head is not None
    margin = 10
    assert head.first_row == pytest.approx(60 - margin, abs=2) and head.last_row == pytest.approx(140 + margin, abs=2)
    assert head.first_column == pytest.approx(70 - margin, abs=2)
    assert head.last_column == pytest.approx(130 + margin, abs=2)
    assert boxes[:15] == [head] * 15, "the table is no part of the body"
    assert boxes[19:] == [None] * 21, "a slice beside the shoulders holds them"


def test_turned_for_display_the_boxes_turn_too() -> None:
    image = as_volume(head_above_shoulders())
    turned = image.grid.affine.copy()
    turned[1, 1], turned[1, 3] = -1.0, 199.0
    upside_down = replace(image, pixels=image.pixels[:, ::-1].copy(), grid=Grid(image.grid.shape, turned))
    assert body_boxes(upside_down, 0.7) == body_boxes(image, 0.7)
    flipped = replace(image, pixels=image.pixels[::-1].copy())
    assert body_boxes(flipped, 0.7) == body_boxes(image, 0.7)[::-1]


def test_nothing_is_cut_of_what_is_no_ct_volume_in_hounsfield_units() -> None:
    image = as_volume(head_above_shoulders())
    for other in (
        replace(image, modality=Modality.MR),
        replace(image, is_volume=False),
        replace(image, pixels=((image.pixels + 1000) // 8).clip(0, 255).astype(np.uint8)),
        as_volume(np.full((4, 20, 20), -1000, dtype=np.int16)),
    ):
        assert not any(body_boxes(other, 0.7))
    assert not any(body_boxes(image, 0.0))


def test_a_mask_of_a_cut_slice_lies_where_it_was_seen() -> None:
    rows, columns = 150, 200
    box = Box(30, 50, 110, 120)
    there = torch.zeros(1, 1, rows, columns)
    there[..., 50:80, 70:100] = 1.0
    seen = torch.nn.functional.avg_pool2d(to_model_grid(there[..., *box.place], SIZE), STRIDE)
    logits = torch.cat([10 * (seen - 0.5)] * 2)[None].squeeze(2)
    frame = onto_frame(logits, [box, None], rows, columns, SIZE)
    assert (frame[:, 1] == logits[:, 1]).all(), "seen whole"
    mask = to_image_grid(frame[0, :1], rows, columns, SIZE)[0] > 0
    both = (mask & (there[0, 0] > 0)).sum()
    assert 2 * both / (mask.sum() + there.sum()) > 0.97
    outside = torch.ones(rows, columns, dtype=torch.bool)
    outside[30:110, 50:120] = False
    on_frame = to_image_grid(frame[0, :1], rows, columns, SIZE)[0]
    assert float(on_frame[:20].max()) == float(on_frame[:, 130:].max()) == -HIGHEST
