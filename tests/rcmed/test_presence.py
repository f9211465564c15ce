"""Presence judged by the found region, and its training stage."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from rcmed.assistant import Assistant
from rcmed.findings import FindingStatus, ModelIdentity
from rcmed.image import Grid, Image, Modality
from rcmed.model.config import RCMedConfig
from rcmed.model.inference import SliceAnswers, mask_sureness
from rcmed.model.presence import RegionPresence
from rcmed.training.presence_stage import generator_of, presence_loss
from rcmed.vocabulary import target_named


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


def test_the_stage_draws_apart_from_the_first() -> None:
    assert generator_of(0, 3).random() == generator_of(0, 3).random() != generator_of(0, 4).random()


def asked(presence: float, sureness: float, sure_mask_logit: float | None) -> Any:
    """The finding for a 2D image of which a model says this."""

    class Reader:
        def read(self, pixels: Any, names: Any, modality: Any) -> Iterator[SliceAnswers]:
            masks = np.zeros((1, 1, *pixels.shape[1:3]), dtype=bool)
            masks[..., 2:6, 3:8] = True
            said = (np.full((1, 1), value, dtype=np.float32) for value in (presence, sureness))
            yield SliceAnswers(0, masks, *said)

    config = RCMedConfig(presence_thresholds=(0.25, 0.6), sure_mask_logit=sure_mask_logit, tiled_targets=())
    model: Any = SimpleNamespace(config=config, eval=lambda: model, device="cpu")
    processor: Any = SimpleNamespace(surroundings=lambda: (torch.zeros(1), torch.zeros(1)))
    assistant = Assistant(model, processor, ModelIdentity("made", "1", "0" * 64))
    assistant._reader = Reader()  # type: ignore[assignment]
    image = Image(np.zeros((1, 16, 20), dtype=np.uint8), Grid.without_geometry(16, 20), Modality.PATHOLOGY)
    (finding,) = assistant.find_targets(image, [target_named("nuclei")])
    return finding


@pytest.mark.parametrize(
    ("presence", "sureness", "sure_mask_logit", "status"),
    [
        (0.9, 3.0, 10.0, FindingStatus.FOUND),
        (0.4, 3.0, 10.0, FindingStatus.UNCERTAIN),
        (0.1, 3.0, 10.0, FindingStatus.ABSENT),
        (0.1, 12.0, 10.0, FindingStatus.UNCERTAIN),
        (0.1, 12.0, None, FindingStatus.ABSENT),
    ],
)
def test_where_a_sure_mask_and_presence_disagree_the_finding_is_uncertain(
    presence: float, sureness: float, sure_mask_logit: float | None, status: FindingStatus
) -> None:
    finding = asked(presence, sureness, sure_mask_logit)
    assert finding.status is status
    assert (finding.mask is None) == (status is FindingStatus.ABSENT)
    assert finding.presence == pytest.approx(presence)


def test_a_mask_is_as_sure_as_its_highest_logits() -> None:
    logits = torch.zeros(2, 3, 20, 20)
    logits[1, 2, :10, :10] = 8.0
    sureness = mask_sureness(logits)
    assert sureness.shape == (2, 3) and float(sureness[1, 2]) == pytest.approx(8.0)
    assert float(sureness[0].abs().max()) == 0.0
    assert float(mask_sureness(logits[1, 2, :4, :4])) == pytest.approx(8.0), "fewer pixels than are asked for"
