"""Fine-tuning on corrections: the corrected targets are learned, all others are held where they are.

The data that the weights were trained on are not at a user's site. So everything else is taught to stay: on the same
images the old weights are asked for other targets, and the new ones must answer the same, mask and presence alike
(distillation). Only a part of the model is trained, in few small steps, and of these steps the one is kept that does
best on corrections that took no part in training.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import cast

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from rcmed.errors import InputError
from rcmed.modality import Modality
from rcmed.model.config import Lesson, RCMedConfig
from rcmed.model.knowledge import known_targets, modalities_of
from rcmed.model.modeling import EncodedImage, RCMedModel, RCMedOutput
from rcmed.model.processor import RCMedProcessor
from rcmed.site_learning.correction_losses import learning_loss, staying_loss
from rcmed.site_learning.judging import agreements, other_targets, score_pairs
from rcmed.training.adapters import LanguageAdapters
from rcmed.training.batches.augmentation import draw_geometry, swap_sides, vary_intensity, warp
from rcmed.training.batches.packed import PackedTriplet
from rcmed.training.batches.reflection import reflect_beside
from rcmed.training.schedule import warm_cosine
from rcmed.vocabulary.mirroring import has_side

_WARMUP_STEPS = 5
_STRENGTHS = (1.0, 0.85, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)
# More than the gate wants: its slices are others, and on a few small structures agreement varies by 0.01.
_STAYING_AGREEMENT = 0.99
_SLICES_LOOKED_AT = 24


class Part(StrEnum):
    """What is trained."""

    HEAD = "head"
    """The mask decoder with presence, and what turns the language model's states into its prompts."""
    LANGUAGE = "language"
    """LoRA in the language decoder (merged at the end), and what turns its states into prompts."""


class CorrectionSettings(BaseModel):
    """What can be set of learning from corrections.

    Attributes:
        part: what is trained.
        steps: most optimiser steps.
        batch_images: corrected slices of a step.
        prompts_per_image: most corrected targets asked of a slice in a step.
        kept_per_image: other targets asked of a slice in a step, which must be answered as before, and as many that
            belong anywhere.
        learning_rate: of AdamW, with a cosine schedule.
        distillation: weight of the other targets' loss against that of the corrected ones.
        reflection_rate: probability that a slice is reflected beside a corrected target (`batches.reflection`), which
            also makes pictures without it: presence must not learn that it is always there.
        check_every: steps between two looks at the corrections that took no part.
        patience: so many looks without a better result end the training.
        seed: of everything random.
        threads: CPU threads.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    part: Part = Part.HEAD
    steps: int = Field(default=120, ge=1)
    batch_images: int = Field(default=4, ge=1)
    prompts_per_image: int = Field(default=2, ge=1)
    kept_per_image: int = Field(default=3, ge=0)
    learning_rate: float = Field(default=2e-4, gt=0)
    distillation: float = Field(default=2.0, ge=0)
    reflection_rate: float = Field(default=0.25, ge=0, le=1)
    check_every: int = Field(default=20, ge=1)
    patience: int = Field(default=3, ge=1)
    seed: int = 0
    threads: int = Field(default=2, ge=1)


@dataclass(frozen=True)
class LearningProgress:
    """Told at every step.

    Attributes:
        step, steps: done, and at most.
        loss: of this step.
        best: mean score of the corrected targets on the corrections that took no part, so far the best; None before
            the first look or where there are none.
    """

    step: int
    steps: int
    loss: float
    best: float | None


@dataclass(frozen=True, eq=False)
class FineTuned:
    """A candidate.

    Attributes:
        model: with the learned weights, ready to use.
        kept_step: the step whose weights it has; 0: none did better than the old weights.
        strength: how far from the old weights to the learned ones it is, in (0, 1]: less than 1 where other targets
            would have moved.
        looks: (step, mean score) at every look, the old weights first.
    """

    model: RCMedModel
    kept_step: int
    strength: float = 1.0
    looks: tuple[tuple[int, float], ...] = field(default=())


def fine_tune(
    model: RCMedModel,
    processor: RCMedProcessor,
    training: Sequence[PackedTriplet],
    stopping: Sequence[PackedTriplet],
    settings: CorrectionSettings,
    report: Callable[[LearningProgress], None] = lambda _: None,
) -> FineTuned:
    """Learn from corrections; the given model stays as it is (but is switched to evaluation).

    Args:
        model: the old weights; its memory is needed twice.
        training: corrected slices on the model grid, each with a mask or a target that is said to be absent.
        stopping: corrected slices that took no part; they choose the step that is kept.
    Raises:
        InputError: there is nothing to learn.
    """
    if not any(each.masks for each in training):
        raise InputError("corrections: none of them has a mask to learn from; submit one")
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    learner = _Learner(model.eval(), processor, training, settings)
    corrected = {name for each in training for name in (*each.masks, *each.absent)}
    watched = [each for each in stopping if corrected & {*each.masks, *each.absent}]

    def look() -> float:
        scores = [s.dice for s in score_pairs(learner.student, processor, watched) if s.target in corrected]
        return float(np.mean(scores))

    looks = [(0, look())] if watched else []
    kept_step, kept = 0, learner.trained_state()
    for step in range(1, settings.steps + 1):
        loss = learner.step(step)
        if watched and (step % settings.check_every == 0 or step == settings.steps):
            looks.append((step, look()))
            if looks[-1][1] > max(score for _, score in looks[:-1]):
                kept_step, kept = step, learner.trained_state()
        report(LearningProgress(step, settings.steps, loss, max((s for _, s in looks), default=None)))
        if watched and step - kept_step >= settings.patience * settings.check_every:
            break
    if watched:
        learner.restore(kept)
    else:
        kept_step = settings.steps
    strength = learner.weaken([*training, *stopping][:_SLICES_LOOKED_AT])
    model = learner.finish()
    if kept_step:
        model.config.teach(
            Lesson(name, each.modality.value, each.dataset, True) for each in training for name in each.masks
        )
    return FineTuned(model, kept_step, strength, tuple(looks))


class _Learner:
    """The old weights, the new ones, and the optimiser between them."""

    def __init__(
        self,
        teacher: RCMedModel,
        processor: RCMedProcessor,
        training: Sequence[PackedTriplet],
        settings: CorrectionSettings,
    ) -> None:
        self.teacher, self.processor, self.training, self.settings = teacher, processor, training, settings
        self.corrected = sorted({name for each in training for name in (*each.masks, *each.absent)})
        self.student = copy.deepcopy(teacher)
        self.student.requires_grad_(False)
        self.adapters = LanguageAdapters(self.student) if settings.part is Part.LANGUAGE else None
        for part in _trained_parts(self.student, settings.part):
            part.requires_grad_(True)
        if self.student.device.type == "cpu":
            # The CPU's fused attention has a slow backward pass at these lengths.
            self.student.language.decoder.set_attn_implementation("eager")
        self.trained = {name: value for name, value in self.student.named_parameters() if value.requires_grad}
        self.initial = self.trained_state()
        self.optimiser = torch.optim.AdamW(self.trained.values(), lr=settings.learning_rate, weight_decay=0.0)
        self.before, self.after = (ids.to(teacher.device) for ids in processor.surroundings())

    def trained_state(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.trained.items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, value in self.trained.items():
                value.copy_(state[name])

    def weaken(self, slices: Sequence[PackedTriplet]) -> float:
        """Go back towards the old weights until other targets are answered as before; returns how far from them it is.

        Half-way weights keep most of what was learned and move the rest far less (Wortsman 2022, "Robust fine-tuning
        of zero-shot models").
        """
        learned = self.trained_state()
        for strength in _STRENGTHS:
            self.restore({name: self.initial[name].lerp(value, strength) for name, value in learned.items()})
            kept = agreements(self.teacher, self.student, self.processor, slices, self.corrected)
            if all(mean >= _STAYING_AGREEMENT for mean, _ in kept.values()):
                return strength
        return _STRENGTHS[-1]

    def finish(self) -> RCMedModel:
        if self.adapters is not None:
            self.adapters.merge()
        self.student.language.decoder.set_attn_implementation("sdpa")
        return self.student.requires_grad_(True).eval()

    def step(self, number: int) -> float:
        """One optimiser step, counted from 1; everything random comes from the seed and the number."""
        settings = self.settings
        generator = np.random.default_rng((settings.seed, number))
        torch.manual_seed(int(np.random.SeedSequence((settings.seed, number)).generate_state(1)[0]))
        chosen = [self.training[i] for i in generator.permutation(len(self.training))[: settings.batch_images]]
        modalities = [each.modality for each in chosen]
        pixels, inside, names, which, masks = self._varied(chosen, generator)
        kept_names, kept_which, kept_modalities = self._to_keep(chosen, generator)
        self.student.train()
        encoded, old_encoded = self._encode(pixels, inside)
        output = self._ground(self.student, encoded, names, which, [modalities[i] for i in which])
        with torch.no_grad():
            known = self._ground(self.teacher, old_encoded, names, which, [modalities[i] for i in which])
        loss = learning_loss(output, masks.to(self.teacher.device), self._wanted_presence(masks, known))
        if kept_names:
            with torch.no_grad():
                old = self._ground(self.teacher, old_encoded, kept_names, kept_which, kept_modalities)
            new = self._ground(self.student, encoded, kept_names, kept_which, kept_modalities)
            loss = loss + settings.distillation * staying_loss(new, old)
        for group in self.optimiser.param_groups:
            group["lr"] = settings.learning_rate * warm_cosine(number - 1, settings.steps, _WARMUP_STEPS, lowest=0.05)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.trained.values(), 1.0)
        self.optimiser.step()
        return loss.item()

    def _varied(
        self, chosen: Sequence[PackedTriplet], generator: np.random.Generator
    ) -> tuple[Tensor, Tensor, list[str], list[int], Tensor]:
        """Pixels float (image, 3, size, size), and where that is no padding; names, images, masks of the prompts."""
        images, filled, names, which, masks = [], [], [], [], []
        for index, each in enumerate(chosen):
            asked = [*sorted(each.masks), *each.absent]
            asked = [asked[i] for i in generator.permutation(len(asked))[: self.settings.prompts_per_image]]
            image, drawn = each.pixels.float(), torch.stack([each.mask(name) for name in asked])
            present = [number for number, name in enumerate(asked) if name in each.masks]
            may_reflect = present and not any(map(has_side, asked))
            if may_reflect and generator.random() < self.settings.reflection_rate:
                pivot = present[int(generator.integers(len(present)))]
                image, drawn = reflect_beside(image, drawn, pivot, generator) or (image, drawn)
            affine, mirrored = draw_geometry(each.modality, generator, 0.0)
            whole = torch.cat([image, each.inside().float(), drawn.float()])
            warped = warp(whole[None], affine[None])[0]
            images.append(warped[:3])
            filled.append(warped[3:4] > 0.5)
            masks.append(warped[4:] > 0.5)
            names += [swap_sides(name) if mirrored else name for name in asked]
            which += [index] * len(asked)
        varied = vary_intensity(torch.stack(images), [each.modality for each in chosen], generator)
        return varied, torch.stack(filled), names, which, torch.cat(masks)

    def _to_keep(
        self, chosen: Sequence[PackedTriplet], generator: np.random.Generator
    ) -> tuple[list[str], list[int], list[Modality]]:
        """Other targets of each slice, and as many of any modality, asked in its words: they must not be seen here."""
        names: list[str] = []
        which: list[int] = []
        modalities: list[Modality] = []
        config = cast(RCMedConfig, self.teacher.config)
        known = {target.name: modalities_of(config, target) for target in known_targets(config)}
        all_names = sorted(set(known) - set(self.corrected))
        for index, each in enumerate(chosen):
            others = other_targets(self.teacher, each, self.corrected)
            others = [others[i] for i in generator.permutation(len(others))[: self.settings.kept_per_image]]
            names += others
            modalities += [each.modality] * len(others)
            foreign = generator.permutation(len(all_names))[: self.settings.kept_per_image]
            for name in (all_names[number] for number in foreign):
                seen_in = known[name]
                names.append(name)
                modalities.append(seen_in[generator.integers(len(seen_in))])
            which += [index] * (len(names) - len(which))
        return names, which, modalities

    def _wanted_presence(self, masks: Tensor, known: RCMedOutput) -> Tensor | None:
        """The truth where the old weights are not sure of it, else what they say, float (prompt,).

        Most corrections show their target. Pushed up at each of them, presence would rise for all targets, also for
        those that are not there.
        """
        if known.presence_logits is None:
            return None
        absent_below, found_from = self.teacher.config.presence_thresholds
        present = masks.flatten(1).any(1).to(known.presence_logits.device)
        says = known.presence_logits.sigmoid()
        is_right = torch.where(present, says >= found_from, says < absent_below)
        return torch.where(is_right, says, present.float())

    def _encode(self, pixels: Tensor, inside: Tensor) -> tuple[EncodedImage, EncodedImage]:
        """By the new weights and by the old ones; what is not trained is computed once."""
        values = self.processor.normalise(pixels)
        if not self.processor.pads_before_normalising:
            values = values * inside
        values = values.to(self.teacher.device, self.teacher.dtype)
        with torch.no_grad():
            features = self.teacher.vision(values)
            prefix = self.teacher.language.encode_prefix(features.tokens, self.before, self.after)
            old = self.teacher.steer(features.dense, features.fine, prefix)
        if self.adapters is not None:
            prefix = self.student.language.encode_prefix(features.tokens, self.before, self.after)
        return self.student.steer(features.dense, features.fine, prefix), old

    def _ground(
        self,
        model: RCMedModel,
        encoded: EncodedImage,
        names: Sequence[str],
        which: Sequence[int],
        modalities: Sequence[Modality],
    ) -> RCMedOutput:
        prompts = self.processor.prepare_prompts(names, modalities).to(model.device)
        return model.ground(encoded, torch.tensor(which, device=model.device), prompts)


def _trained_parts(model: RCMedModel, part: Part) -> list[nn.Module]:
    parts: list[nn.Module] = [model.text_hidden_fcs, model.t2i_projection]
    if part is Part.HEAD:
        parts += [each for each in (model.grounding, model.name_path, model.loop) if each is not None]
    return parts
