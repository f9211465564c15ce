"""What people really type: paraphrases that are no synonyms resolve, other words do not."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml

from rcmed.assistant import Assistant
from rcmed.image import Grid, Image
from rcmed.modality import Modality
from rcmed.vocabulary import load_targets, resolve_targets

PARAPHRASES = yaml.safe_load(Path(__file__).with_name("paraphrases.yaml").read_text())
# No rule leads from these to their targets.
BEYOND_US = {"beauty spot", "ticker"}


def meant(words: str, modality: str) -> list[str]:
    resolution = resolve_targets(words, Modality(modality))
    return [] if resolution.unresolved else [target.name for target in resolution.targets]


def test_there_are_thirty_that_are_no_synonyms() -> None:
    terms = {term for target in load_targets() for term in (target.name, *target.synonyms)}
    assert len(PARAPHRASES) == len({words for _, words, _, _ in PARAPHRASES}) == 30
    assert terms.isdisjoint(words for _, words, _, _ in PARAPHRASES)
    assert min(Counter(kind for kind, _, _, _ in PARAPHRASES).values()) >= 4


def test_at_least_twenty_seven_resolve_to_their_target() -> None:
    missed = {words for _, words, modality, target in PARAPHRASES if meant(words, modality) != [target]}
    assert missed == BEYOND_US


@pytest.mark.slow
def test_paraphrases_give_the_same_masks() -> None:
    assistant = Assistant.from_pretrained("small", "cpu")
    trained = set(assistant.model.config.target_names)
    assert all(target in trained for _, _, _, target in PARAPHRASES)
    pixels = np.full((1, 96, 96, 3), 60, np.uint8)
    pixels[0, 30:60, 30:60] = 200
    for _, words, modality, target in PARAPHRASES[::6]:
        image = Image(pixels, Grid.without_geometry(96, 96), Modality(modality))
        (one,), (other,) = assistant.find(image, words).findings, assistant.find(image, target).findings
        assert one.target == other.target and one.status == other.status
        assert (one.mask is None) == (other.mask is None)
        if one.mask is not None and other.mask is not None:
            assert np.array_equal(one.mask, other.mask)


WRONG = [
    # one letter from a term, and words of their own
    *[("hearth", "ct"), ("livery", "ct"), ("fatal head", "ultrasound"), ("colony", "ct"), ("legion of the skin", "ct")],
    *[("enema", "mr"), ("liner", "ct"), ("beast tumor", "ultrasound"), ("rental vein", "ct"), ("cancel", "ct")],
    # near in anatomy, and something else
    *[("ureter", "ct"), ("uterus", "mr"), ("femur", "ct"), ("thalamus", "mr"), ("optic nerve", "fundus")],
    *[
        ("heart valve", "ct"),
        ("kidney stone", "ct"),
        ("renal vein", "ct"),
        ("hepatic artery", "ct"),
        ("fovea", "fundus"),
    ],
    *[("left ventricle of the brain", "mr"), ("fluid around the heart", "ct"), ("lung abscess", "ct")],
    *[("nucleus pulposus", "mr"), ("vena renalis", "ct"), ("cancer of the stomach", "ct"), ("head of the femur", "ct")],
    # an adjective alone, a word of everyday life, a part of a term
    *[("hepatic", "ct"), ("pulmonary", "ct"), ("cardiac", "ct"), ("sinister", "ct"), ("vas", "ct"), ("water", "x_ray")],
    *[("lump", "ct"), ("growth", "x_ray"), ("blood", "ct"), ("tissue", "ct"), ("gland", "ct"), ("white", "pathology")],
    # an order that means something else
    *[("edema without a brain tumor", "mr"), ("cell of the nucleus of a star", "pathology"), ("no liver", "ct")],
]


@pytest.mark.parametrize(("words", "modality"), WRONG)
def test_other_words_name_nothing(words: str, modality: str) -> None:
    resolution = resolve_targets(words, Modality(modality))
    assert resolution.targets == ()
    assert resolution.unresolved


@pytest.mark.parametrize(
    ("words", "targets"),
    [
        # The words of "brain tumor with edema", but for the "with".
        ("edema of the brain tumor", []),
        ("edema and brain tumor", ["peritumoral edema", "brain tumor"]),
        ("ren dexter et sinister", []),
        ("atrium sinistrum, ventriculus dexter", ["left atrium", "right ventricle"]),
    ],
)
def test_the_order_of_words_is_not_everything(words: str, targets: list[str]) -> None:
    assert [target.name for target in resolve_targets(words, Modality.MR).targets] == targets
