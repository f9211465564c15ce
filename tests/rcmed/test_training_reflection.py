"""Reflected pictures: the target is there twice or not at all, and nothing else is invented."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rcmed.training.batches.reflection import reflect_beside


def picture(column: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A grey ramp on black with a square target whose left edge is at `column`."""
    pixels = torch.zeros(3, 40, 64)
    pixels[:, 4:36, 8:56] = torch.arange(48).float() + 100
    masks = torch.zeros(2, 40, 64, dtype=torch.bool)
    masks[0, 10:20, column : column + width] = True
    masks[1, 4:36, 8:56] = True
    return pixels, masks


@settings(max_examples=80, deadline=None)
@given(column=st.integers(8, 46), width=st.integers(3, 9), seed=st.integers(0, 1000))
def test_the_target_is_there_twice_or_not_at_all(column: int, width: int, seed: int) -> None:
    pixels, masks = picture(column, width)
    reflected = reflect_beside(pixels, masks, 0, np.random.default_rng(seed))
    if reflected is None:
        return
    new_pixels, new_masks = reflected
    assert new_pixels.shape == pixels.shape and new_masks.shape == masks.shape
    # Both copies lie inside the content or the outer one is cut at its border, never in between.
    count = int(new_masks[0].sum())
    assert count == 0 or 10 * width <= count <= 20 * width
    # The other mask still covers exactly what is shown.
    assert torch.equal(new_masks[1][4:36], (new_pixels[0] > 0)[4:36])


def test_both_kinds_are_made_of_the_same_picture() -> None:
    pixels, masks = picture(12, 6)
    made = [reflect_beside(pixels, masks, 0, np.random.default_rng(seed)) for seed in range(40)]
    present = [bool(one[1][0].any()) for one in made if one is not None]
    assert len(present) == 40 and 10 < sum(present) < 30
    whole = next(one for one in made if one is not None and not one[1][0].any())[0]
    # Reflected at the middle, the ramp's far half is symmetric.
    assert torch.equal(whole[0, 10, 8:56], whole[0, 10, 8:56].flip(0))


def test_a_target_across_the_middle_of_everything_gives_none() -> None:
    pixels, masks = picture(20, 9)
    masks[0, 10:20, 12:52] = True
    assert reflect_beside(pixels, masks, 0, np.random.default_rng(0)) is None
