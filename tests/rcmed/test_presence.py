"""Presence judged by the found region, and its training stage."""

import pytest
import torch

from rcmed.model.presence import RegionPresence
from rcmed.training.presence_stage import cosine, generator_of, presence_loss


def test_an_untrained_one_changes_nothing_and_leaves_the_mask_alone() -> None:
    part = RegionPresence(8, (4, 6))
    logits = torch.randn(3, 16, 16, requires_grad=True)
    maps = [torch.randn(3, 4, 16, 16), torch.randn(3, 6, 4, 4)]
    added = part(torch.randn(3, 8), logits, maps)
    assert torch.equal(added, torch.zeros(3))
    torch.nn.init.normal_(part.head[2].weight)
    part(torch.randn(3, 8), logits, maps).sum().backward()
    assert logits.grad is None


def test_it_sees_what_lies_under_the_mask() -> None:
    """The same picture and the same prompt: only where the mask lies differs."""
    part = RegionPresence(8, (1,))
    torch.nn.init.normal_(part.head[2].weight)
    bright_left = torch.zeros(2, 1, 8, 8)
    bright_left[..., :4] = 5.0
    logits = torch.full((2, 16, 16), -8.0)
    logits[0, 4:8, 2:6] = 8.0
    logits[1, 4:8, 10:14] = 8.0
    added = part(torch.ones(2, 8), logits, [bright_left])
    assert (added[0] - added[1]).abs() > 1e-3


def test_absent_and_present_weigh_the_same() -> None:
    logits = torch.tensor([2.0, 2.0, 2.0, 2.0])
    rare = presence_loss(logits, torch.tensor([True, True, True, False]))
    even = presence_loss(logits[:2], torch.tensor([True, False]))
    assert rare.item() == pytest.approx(even.item())
    only = presence_loss(logits, torch.ones(4, dtype=torch.bool))
    assert only.item() == pytest.approx(torch.nn.functional.softplus(torch.tensor(-2.0)).item())


def test_the_stage_anneals_and_draws_apart_from_the_first() -> None:
    assert cosine(0, 100) < cosine(25, 100) and cosine(99, 100) < 0.01
    assert generator_of(0, 3).random() == generator_of(0, 3).random() != generator_of(0, 4).random()
