"""What is asked for in vain: only targets that an image truly can't show, and that are learned elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from rcmed.data.triplets import read_index
from rcmed.errors import ConfigurationError
from rcmed.modality import Modality
from rcmed.model.modeling import RCMedModel
from rcmed.training.batches.packed import PackedTriplet
from rcmed.training.batches.sampler import BalancedSampler
from rcmed.training.batches.shown_regions import REGIONS, ShownRegions
from rcmed.training.batches.true_negatives import negatives_by_dataset, with_learnable_absences
from rcmed.training.losses import region_loss
from rcmed.training.settings import TrainingSettings
from rcmed.training.trainer import Trainer
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


@pytest.mark.slow
def test_weights_learn_to_tell_the_regions_and_nothing_else_changes(
    tiny_index: TrainingSettings, tmp_path: Path
) -> None:
    start = Trainer(tiny_index).save_model(tmp_path / "model")
    datasets = {t.dataset for t in read_index(tiny_index.index, tiny_index.root)}
    update = {
        "output": tmp_path / "regions",
        "start_from": start,
        "steps": 0,
        "presence_steps": 0,
        "region_steps": 6,
        "dataset_regions": {name: ShownRegions(shown=tuple(BodyRegion)) for name in datasets},
    }
    trainer = Trainer(tiny_index.model_copy(update=update))
    folder = trainer.run(show_progress=False)
    before, after = load_file(start / "model.safetensors"), load_file(folder / "model.safetensors")
    assert {name for name in after if name not in before} == {n for n in after if n.startswith("region_head.")}
    assert all(torch.equal(after[name], value) for name, value in before.items())
    model = RCMedModel.from_pretrained(folder).eval()
    assert model.config.body_regions == [region.value for region in BodyRegion]
    with torch.inference_mode():
        encoded = model.encode(
            torch.zeros(2, 3, tiny_index.image_size, tiny_index.image_size), *trainer.processor.surroundings()
        )
    assert encoded.region_logits is not None and encoded.region_logits.shape == (2, len(BodyRegion))
    assert (encoded.region_logits > 0).all(), "every image showed every region"
    assert encoded.select(1, 2).region_logits.shape == (1, len(BodyRegion))  # type: ignore[union-attr]


def test_regions_come_from_a_file_too(tmp_path: Path) -> None:
    (tmp_path / "regions.yaml").write_text("a: {shown: [head]}\nb: {possible: [neck, chest]}\n")
    (tmp_path / "settings.yaml").write_text(f"dataset_regions: {tmp_path / 'regions.yaml'}\n")
    told = TrainingSettings.from_yaml(tmp_path / "settings.yaml").dataset_regions
    assert told == {
        "a": ShownRegions(shown=(BodyRegion.HEAD,)),
        "b": ShownRegions(possible=(BodyRegion.NECK, BodyRegion.CHEST)),
    }
    (tmp_path / "settings.yaml").write_text("dataset_regions: nowhere.yaml\n")
    with pytest.raises(ConfigurationError, match="settings.yaml"):
        TrainingSettings.from_yaml(tmp_path / "settings.yaml")
