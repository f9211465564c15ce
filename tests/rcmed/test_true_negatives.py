"""What is asked for in vain: only targets that an image truly can't show, and that are learned elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rcmed.errors import ConfigurationError
from rcmed.image import Modality
from rcmed.training.losses import region_loss
from rcmed.training.packed import PackedTriplet
from rcmed.training.sampler import BalancedSampler
from rcmed.training.settings import TrainingSettings
from rcmed.training.shown_regions import REGIONS, ShownRegions
from rcmed.training.true_negatives import negatives_by_dataset, with_learnable_absences
from rcmed.vocabulary.body_regions import BodyRegion

SIZE = 64
HEAD, ABDOMEN = ShownRegions(shown=(BodyRegion.HEAD,)), ShownRegions(shown=(BodyRegion.ABDOMEN,))


def packed(dataset: str, modality: Modality, shown: tuple[str, ...], absent: tuple[str, ...] = ()) -> PackedTriplet:
    mask = np.packbits(np.ones((SIZE, SIZE), dtype=bool), axis=-1)
    pixels = torch.zeros(3, SIZE, SIZE, dtype=torch.uint8)
    return PackedTriplet(pixels, dict.fromkeys(shown, mask), absent, (SIZE, SIZE), modality, dataset)


TRIPLETS = [
    packed("heads", Modality.MR, ("brain tumor",)),
    packed("bellies", Modality.CT, ("liver",), ("spleen",)),
    packed("others", Modality.MR, ("vertebra",)),
    packed("moles", Modality.DERMOSCOPY, ("skin lesion",)),
]
REGIONS_OF = {"heads": HEAD, "bellies": ABDOMEN}


def test_a_head_shows_no_liver_and_an_unlabelled_organ_of_the_same_part_is_unknown() -> None:
    negatives = negatives_by_dataset(TRIPLETS, REGIONS_OF)
    assert negatives["heads", Modality.MR] == (("skin lesion",), ("liver",)), "a head may show a vertebra"
    assert negatives["bellies", Modality.CT] == (("skin lesion",), ("brain tumor",))
    assert negatives["others", Modality.MR] == (("skin lesion",), ()), "where it was taken is not told"
    assert negatives["moles", Modality.DERMOSCOPY] == (("brain tumor", "liver", "vertebra"), ())


def test_what_was_never_shown_is_not_learned_as_absent() -> None:
    (_, belly, *_) = with_learnable_absences(TRIPLETS, known=())
    assert belly.absent == ()
    (_, belly, *_) = with_learnable_absences(TRIPLETS, known=("spleen",))
    assert belly.absent == ("spleen",)
    shown = [*TRIPLETS, packed("spleens", Modality.CT, ("spleen",))]
    assert with_learnable_absences(shown, known=())[1].absent == ("spleen",)
    in_mr = [*TRIPLETS, packed("spleens", Modality.MR, ("spleen",))]
    assert with_learnable_absences(in_mr, known=())[1].absent == (), "of CT nothing is known"


def test_absent_targets_that_are_asked_for_are_negatives() -> None:
    settings = TrainingSettings(dataset_regions=REGIONS_OF, batch_images=16)
    sampler = BalancedSampler(TRIPLETS, settings)
    asked: dict[str, set[str]] = {}
    generator = np.random.default_rng(0)
    for _ in range(20):
        for triplet, prompts in sampler.draw(generator, absent_rate=1.0):
            asked.setdefault(triplet.dataset, set()).update(name for name, present in prompts if not present)
    assert asked == {
        "heads": {"liver", "skin lesion"},
        "bellies": {"spleen", "brain tumor", "skin lesion"},
        "others": {"skin lesion"},
        "moles": {"brain tumor", "liver", "vertebra"},
    }


def test_regions_that_rule_out_what_is_labelled_are_refused() -> None:
    settings = TrainingSettings(dataset_regions={"bellies": HEAD})
    with pytest.raises(ConfigurationError, match="bellies has masks of `liver`"):
        BalancedSampler(TRIPLETS, settings)


def test_regions_are_learned_where_they_are_known() -> None:
    known = ShownRegions(shown=(BodyRegion.NECK,), possible=(BodyRegion.HEAD,)).known()
    by_name = dict(zip(REGIONS, known.tolist(), strict=True))
    assert by_name[BodyRegion.NECK] == 1 and by_name[BodyRegion.EYE] == 0 and np.isnan(by_name[BodyRegion.HEAD])
    logits = torch.where(known == 1, 20.0, -20.0)[None]
    other = logits.clone()
    other[0, REGIONS.index(BodyRegion.HEAD)] = 20.0
    assert float(region_loss(logits, known[None])) < 1e-6
    assert torch.equal(region_loss(logits, known[None]), region_loss(other, known[None]))
    assert float(region_loss(-logits, known[None])) > 10
