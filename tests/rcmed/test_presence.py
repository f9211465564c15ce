"""Presence judged by the found region, and its training stage."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from rcmed.assistant import Assistant
from rcmed.findings import FindingStatus, ModelIdentity
from rcmed.image import Grid, Image
from rcmed.inference.answers import SliceAnswers
from rcmed.modality import Modality
from rcmed.model.config import RCMedConfig
from rcmed.model.heads.presence import PresenceHead, evidence_size, mask_sureness, presence_evidence
from rcmed.training.stages.presence import PresenceSamples, calibrate_presence, fit_presence, generator_of
from rcmed.vocabulary import target_named


def test_evidence_tells_what_lies_under_the_mask_and_leaves_the_mask_alone() -> None:
    """The same picture and the same prompt: only where the mask lies differs."""
    bright_left = torch.zeros(2, 1, 8, 8, requires_grad=True)
    with torch.no_grad():
        bright_left[..., :4] = 5.0
    logits = torch.full((2, 16, 16), -8.0)
    logits[0, 4:8, 2:6] = 8.0
    logits[1, 4:8, 10:14] = 8.0
    logits.requires_grad_()
    evidence = presence_evidence([torch.ones(2, 3)] * 3, logits, [bright_left])
    assert evidence.shape == (2, evidence_size(3, (1,)))
    under, mean, highest = evidence[:, -3:].detach().T
    assert under[0] > 4.9 and under[1] < 0.1 and mean.tolist() == [2.5, 2.5] and highest.tolist() == [5.0, 5.0]
    evidence.sum().backward()
    assert logits.grad is None and bright_left.grad is not None


def samples(seed: int) -> PresenceSamples:
    """Two targets, one of which is nearly always there; what tells presence has a far-off mean and a small spread."""
    generator = torch.Generator().manual_seed(seed)
    rare = torch.rand(2000, generator=generator) < 0.5
    present = torch.where(
        rare, torch.rand(2000, generator=generator) < 0.05, torch.rand(2000, generator=generator) < 0.9
    )
    evidence = torch.randn(2000, 6, generator=generator)
    evidence[:, 0] = 400 + 0.1 * (present.float() + 0.4 * torch.randn(2000, generator=generator))
    evidence[:, 1] = rare.float()
    evidence[:, 2] = 7.0
    return PresenceSamples(evidence, ["rare" if each else "frequent" for each in rare], present)


def test_a_calibrated_head_keeps_its_order_and_finds_its_threshold() -> None:
    head = PresenceHead(6, 16)
    fit_presence(head, samples(0), 3e-3, seed=0)
    seen = samples(1)
    with torch.no_grad():
        fitted = head(seen.evidence)
        # Too sure, and far too ready to call something found: as after a stage in which most targets were there.
        head.layers[-1].weight.mul_(4.0)
        head.layers[-1].bias.mul_(4.0).add_(9.0)
    spoilt = head(seen.evidence).detach()
    calibrate_presence(head, samples(0))
    mended = head(seen.evidence).detach()
    assert bool((mended[spoilt.argsort()].diff() >= -1e-4).all()), "what was surer stays surer"
    assert float((spoilt > 0)[~seen.present].float().mean()) > 0.9
    wrong = [float(((logits > 0) != seen.present).float().mean()) for logits in (fitted, mended)]
    assert wrong[1] < wrong[0] + 0.03


def test_the_head_learns_from_evidence_of_any_scale() -> None:
    head = PresenceHead(6, 16)
    fit_presence(head, samples(0), 3e-3, seed=0)
    seen = samples(1)
    logits = head(seen.evidence).detach()
    for name in ("rare", "frequent"):
        of_name = torch.tensor([each == name for each in seen.names])
        # Balanced: neither the rare nor the frequent target is judged by how often it is there.
        for kind in (True, False):
            right = (logits > 0)[of_name & (seen.present == kind)] == kind
            assert right.float().mean() > 0.75, (name, kind)
    again = PresenceHead(6, 16)
    fit_presence(again, samples(0), 3e-3, seed=0)
    assert torch.equal(again(seen.evidence).detach(), logits), "the same seed gives the same head"


def test_presence_and_absence_of_a_target_weigh_the_same() -> None:
    present = torch.tensor([True, True, True, False, True])
    weights = PresenceSamples(torch.zeros(5, 1), ["a", "a", "a", "a", "b"], present).weights()
    assert float(weights[:3].sum()) == pytest.approx(float(weights[3]))
    assert float(weights[:4].sum()) == pytest.approx(2 * float(weights[4])), "four questions count as the root says"


def test_the_stage_draws_apart_from_the_first() -> None:
    assert generator_of(0, 3).random() == generator_of(0, 3).random() != generator_of(0, 4).random()


def asked(presence: float, sureness: float, sure_mask_logit: float | None) -> Any:
    """The finding for a 2D image of which a model says this."""

    class Reader:
        def read(self, pixels: Any, names: Any, modality: Any, hints: Any, boxes: Any) -> Iterator[SliceAnswers]:
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
