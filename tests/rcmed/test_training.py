"""Training on a tiny generated index: it learns something, and a resumed run equals an unbroken one."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from rcmed.data.triplets import read_index
from rcmed.errors import ConfigurationError, InputError
from rcmed.modality import Modality
from rcmed.model.instruction import UNNAMED
from rcmed.model.modeling import RCMedModel
from rcmed.training.batches.augmentation import (
    Intensity,
    bend,
    change_contrast,
    draw_displacement,
    draw_geometry,
    fill_frame,
    places_of,
    sample,
    swap_sides,
    warp,
)
from rcmed.training.batches.making import BatchMaker
from rcmed.training.batches.packed import pack
from rcmed.training.schedule import warm_cosine
from rcmed.training.settings import PresenceFit, TrainingSettings
from rcmed.training.trainer import Trainer

ROOT = Path(__file__).parents[2]


def test_the_index_tells_absent_from_unknown(tiny_index: TrainingSettings) -> None:
    triplets = read_index(tiny_index.index, tiny_index.root)
    ct = next(t for t in triplets if t.modality.value == "ct")
    assert set(ct.labelled) - set(ct.masks) == {"right kidney"}
    assert ct.read_mask("left kidney").sum() == 900
    assert not ct.read_mask("right kidney").any()


@pytest.mark.slow
def test_a_resumed_run_equals_an_unbroken_one(tiny_index: TrainingSettings, tmp_path: Path) -> None:
    whole = Trainer(tiny_index)
    whole.run(show_progress=False)
    parted = tiny_index.model_copy(update={"output": tmp_path / "parted"})
    first = Trainer(parted)
    for _ in range(2):
        first.train_step()
    first.save_checkpoint()
    second = Trainer(parted)
    assert second.step == 2
    second.run(show_progress=False)
    for name, value in whole.averaged.items():
        torch.testing.assert_close(second.averaged[name], value, atol=1e-6, rtol=1e-5, msg=name)
    assert (parted.output / "model" / "model.safetensors").exists()


@pytest.mark.slow
def test_batches_made_ahead_give_the_same_weights(tiny_index: TrainingSettings, tmp_path: Path) -> None:
    averages = []
    for workers in (0, 2):
        update = {"output": tmp_path / str(workers), "batch_workers": workers, "elastic_rate": 0.5, "colour_rate": 0.5}
        trainer = Trainer(tiny_index.model_copy(update=update))
        trainer.run(show_progress=False)
        averages.append(trainer.averaged)
    for name, value in averages[0].items():
        torch.testing.assert_close(averages[1][name], value, atol=1e-6, rtol=1e-5, msg=name)


def test_a_run_can_start_from_weights_and_learn_new_names(tiny_index: TrainingSettings, tmp_path: Path) -> None:
    folder = Trainer(tiny_index).save_model(tmp_path / "model")
    again = Trainer(tiny_index.model_copy(update={"output": tmp_path / "again", "start_from": folder}))
    first = load_file(folder / "model.safetensors")
    assert all(torch.equal(again.model.state_dict()[name], value) for name, value in first.items())
    assert "optic disc" in again.model.config.target_names
    with pytest.raises(ConfigurationError, match="image_size"):
        Trainer(tiny_index.model_copy(update={"output": tmp_path / "other", "start_from": folder, "image_size": 96}))


@pytest.mark.slow
def test_a_loop_can_be_added_to_weights_without_one_and_learns(tiny_index: TrainingSettings, tmp_path: Path) -> None:
    folder = Trainer(tiny_index).save_model(tmp_path / "model")
    settings = tiny_index.model_copy(
        update={"output": tmp_path / "looped", "start_from": folder, "loop_turns": 2, "learning_rate": 1e-2}
    )
    trainer = Trainer(settings)
    assert trainer.model.loop is not None
    assert not trainer.model.loop.gate.any(), "it starts without effect"
    for _ in range(3):
        trainer.train_step()
    assert trainer.model.loop.gate.any() and trainer.model.loop.projection.weight.grad is not None
    saved = RCMedModel.from_pretrained(trainer.save_model(tmp_path / "looped-model"))
    assert saved.config.loop_turns == 2 and saved.loop is not None and saved.loop.gate.any()


@pytest.mark.slow
def test_presence_learns_from_what_the_weights_see_in_use(tiny_index: TrainingSettings, tmp_path: Path) -> None:
    """The finished model runs in float32: the evidence must not come from a bf16 pass."""
    start = Trainer(tiny_index).save_model(tmp_path / "model")
    heads = []
    for precision in ("bf16", "fp32"):
        update = {"output": tmp_path / precision, "start_from": start, "steps": 0, "precision": precision}
        trainer = Trainer(tiny_index.model_copy(update=update))
        trainer.train_presence()
        heads.append({name: value for name, value in trainer.averaged.items() if "presence" in name})
    assert heads[0] and all(torch.equal(heads[0][name], heads[1][name]) for name in heads[0])


def test_presence_learned_beside_the_masks_can_be_kept(tiny_index: TrainingSettings, tmp_path: Path) -> None:
    start = Trainer(tiny_index).save_model(tmp_path / "model")
    update = {"output": tmp_path / "kept", "start_from": start, "steps": 0, "presence_fit": PresenceFit.CALIBRATED}
    trainer = Trainer(tiny_index.model_copy(update=update))
    before = {name: value.clone() for name, value in trainer.averaged.items()}
    trainer.train_presence()
    changed = {name for name, value in trainer.averaged.items() if not torch.equal(value, before[name])}
    assert changed == {"grounding.presence.layers.3.weight", "grounding.presence.layers.3.bias"}


def test_one_target_in_one_modality_is_enough(tiny_index: TrainingSettings) -> None:
    """Then no other kind of imaging says what can't be there; an image of which nothing is known is left out."""
    packed = [pack(triplet, 64) for triplet in read_index(tiny_index.index, tiny_index.root)]
    (*photographs, last) = [each for each in packed if each.modality is Modality.FUNDUS]
    maker = BatchMaker([*photographs, replace(last, masks={})], tiny_index)
    batches = [maker.make(np.random.default_rng(seed), 1.0, 0.0) for seed in range(10)]
    assert all(batch.names == ["optic disc"] * tiny_index.batch_images for batch in batches)
    with pytest.raises(ConfigurationError, match="no image shows"):
        BatchMaker([replace(last, masks={})], tiny_index)


def test_names_follow_a_flip() -> None:
    assert swap_sides("left kidney") == "right kidney"
    assert swap_sides("left and right lung") == "right and left lung"
    assert swap_sides("cleft") == "cleft"
    assert swap_sides("left ventricle") == "left ventricle"


@given(seed=st.integers(0, 2**32 - 1))
def test_contrast_changes_leave_the_background_and_stay_in_range(seed: int) -> None:
    values = torch.linspace(0, 1, 256).expand(3, 2, 256)
    changed = change_contrast(values, np.random.default_rng(seed))
    assert torch.equal(changed[values <= 0.04], values[values <= 0.04])
    assert float(changed.min()) >= 0 and float(changed.max()) <= 1
    steps = changed[0, 0, 11:].diff()
    assert bool((steps >= -1e-6).all() or (steps <= 1e-6).all()), "what was brighter stays brighter, or all is turned"


def test_a_close_up_shows_less_than_half_of_the_image() -> None:
    areas = []
    for rate in (0.0, 1.0):
        affines = [draw_geometry(Modality.CT, np.random.default_rng(seed), rate)[0] for seed in range(50)]
        areas.append(float(np.median([abs(float(torch.linalg.det(affine[:, :2]))) for affine in affines])))
    whole, close = areas
    assert 0.7 < whole < 1.4 and close < 0.5


@given(
    top=st.integers(0, 40),
    left=st.integers(0, 40),
    height=st.integers(8, 24),
    width=st.integers(8, 24),
    seed=st.integers(0, 1000),
)
def test_what_is_shown_fills_the_frame_and_keeps_its_shape(
    top: int, left: int, height: int, width: int, seed: int
) -> None:
    pixels = torch.zeros(3, 64, 64)
    pixels[:, top : top + height, left : left + width] = 200.0
    identity = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    filled = warp(pixels[None], fill_frame(identity, pixels, np.random.default_rng(seed))[None])[0, 0] > 100
    rows, columns = filled.any(1).sum().item(), filled.any(0).sum().item()
    assert 53 <= max(rows, columns) <= 64, "with a margin of 15 % at most"
    assert rows / columns == pytest.approx(height / width, rel=0.15)
    centre = torch.nonzero(filled).float().mean(0)
    assert bool((abs(centre - 31.5) < 1.5).all())


@given(seed=st.integers(0, 2**32 - 1))
def test_a_soft_bend_moves_image_and_mask_together_and_not_far(seed: int) -> None:
    generator = np.random.default_rng(seed)
    straight = places_of(torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]]), 64)[0]
    assert torch.equal(bend(straight, torch.zeros(2, 6, 6)), straight)
    displacement = draw_displacement(generator)
    bent = bend(straight, displacement)
    # Bicubic weights overshoot, in each direction by less than a quarter of the sum.
    assert 0 < float((bent - straight).abs().max()) < 1.6 * float(displacement.abs().max())
    mask = torch.zeros(1, 2, 64, 64)
    mask[:, :, 20:44, 16:40] = 1.0
    moved = sample(mask, bent[None])
    assert torch.equal(moved[:, 0], moved[:, 1]) and 200 < int((moved[0, 0] > 0.5).sum()) < 1200


@given(seed=st.integers(0, 2**32 - 1))
def test_a_change_of_hue_leaves_what_is_grey(seed: int) -> None:
    drawn = Intensity.draw(Modality.ENDOSCOPY, (8, 8), np.random.default_rng(seed), colour_rate=1.0)
    assert drawn.colours is not None
    plain = replace(drawn, gains=None, noise=None, blur=None, gamma=1.0, gain=1.0, offset=0.0)
    grey = torch.full((3, 8, 8), 120.0)
    torch.testing.assert_close(plain.apply(grey), grey, atol=0.01, rtol=0)
    green = torch.tensor([90.0, 140.0, 100.0]).view(3, 1, 1).expand(3, 8, 8)
    changed = plain.apply(green)
    assert float((changed - green).abs().max()) > 0 and abs(float(changed.mean() - green.mean())) < 15
    assert Intensity.draw(Modality.CT, (8, 8), np.random.default_rng(seed), colour_rate=1.0).colours is None


@given(seed=st.integers(0, 2**32 - 1))
def test_gain_along_the_depth_is_of_ultrasound_alone(seed: int) -> None:
    drawn = [Intensity.draw(Modality.ULTRASOUND, (16, 8), np.random.default_rng([seed, each])) for each in range(40)]
    gained = [each for each in drawn if each.gains is not None]
    assert 0 < len(gained) < len(drawn)
    gains = gained[0].gains
    assert gains is not None
    plain = replace(gained[0], noise=None, blur=None, gamma=1.0, gain=1.0, offset=0.0)
    shown = plain.apply(torch.full((3, 16, 8), 60.0))
    assert torch.equal(shown, shown[:1, :, :1].expand_as(shown))
    torch.testing.assert_close(shown[0, :, 0], (60.0 * gains.flatten()).clamp(0, 255), atol=0.01, rtol=0)
    assert Intensity.draw(Modality.MR, (16, 8), np.random.default_rng(seed)).gains is None


def test_ultrasound_is_shown_at_more_scales() -> None:
    def spread(modality: Modality) -> float:
        affines = [draw_geometry(modality, np.random.default_rng(seed), 0.0)[0] for seed in range(300)]
        return float(np.std([math.log(abs(float(torch.det(affine[:, :2])))) for affine in affines]))

    assert spread(Modality.ULTRASOUND) > 1.5 * spread(Modality.CT)


def test_the_learning_rate_rises_and_falls() -> None:
    factors = [warm_cosine(step, 100, 10, lowest=0.02) for step in range(101)]
    assert factors[0] == pytest.approx(0.1) and max(factors) == factors[10] == 1.0
    assert factors[-1] == pytest.approx(0.02) and sorted(factors[10:], reverse=True) == factors[10:]


def test_a_set_with_a_rate_of_its_own_is_reflected_more_often(tiny_index: TrainingSettings) -> None:
    """Reflected beside the disc, some pictures show none; without reflections each shows the one it has."""
    absent = []
    for rates in ({}, {"made": 1.0}):
        settings = tiny_index.model_copy(
            update={"reflection_rate": 0.001, "reflection_rates": rates, "absent_rate": 0.0, "close_up_rate": 0.0}
        )
        packed = [pack(triplet, settings.image_size) for triplet in read_index(settings.index, settings.root)]
        maker = BatchMaker(packed, settings)
        batches = [maker.make(np.random.default_rng(seed), 0.0, 0.001) for seed in range(20)]
        absent.append(sum(int((~batch.present).sum()) for batch in batches))
    assert absent[0] == 0 < absent[1]


def test_some_hints_come_without_a_name(tiny_index: TrainingSettings) -> None:
    triplets = [pack(triplet, tiny_index.image_size) for triplet in read_index(tiny_index.index, tiny_index.root)]
    names: dict[float, set[str]] = {}
    for rate in (0.0, 1.0):
        maker = BatchMaker(triplets, tiny_index.model_copy(update={"unnamed_rate": rate}))
        batch = maker.make(np.random.default_rng(0), absent_rate=1.0, reflection_rate=0.0, hint_rate=1.0)
        assert batch.hints is not None and batch.present.any() and not batch.present.all()
        names[rate] = {name for name, present in zip(batch.names, batch.present.tolist(), strict=True) if present}
        assert UNNAMED not in {n for n, present in zip(batch.names, batch.present.tolist(), strict=True) if not present}
    assert names[1.0] == {UNNAMED} and UNNAMED not in names[0.0]


def test_settings_say_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "training.yaml"
    path.write_text("stepz: 3\n")
    with pytest.raises(ConfigurationError, match="stepz"):
        TrainingSettings.from_yaml(path)


def test_a_broken_index_is_named(tmp_path: Path) -> None:
    path = tmp_path / "index.json"
    path.write_text("{")
    with pytest.raises(InputError, match=r"index\.json"):
        read_index(path, tmp_path)


def test_the_packaged_settings_are_valid() -> None:
    shipped = TrainingSettings.from_yaml(ROOT / "configs" / "training.yaml")
    defaults = TrainingSettings()
    of_the_data = {"dataset_weights": {}, "reflection_rates": {}, "healthy_controls": (), "start_from": None}
    assert shipped.model_copy(update=of_the_data) == defaults
