"""The training loop: resumable, seeded by step, with averaged weights and a curve."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from rcmed.data.triplets import read_index, without_targets
from rcmed.errors import ConfigurationError
from rcmed.evaluation.rows import ScoreRow
from rcmed.model.config import Lesson, RCMedConfig
from rcmed.model.heads.regions import region_evidence
from rcmed.model.modeling import PromptTokens, RCMedModel
from rcmed.model.vision.folding import folded
from rcmed.training.adapters import LanguageAdapters
from rcmed.training.batches.conversations import conversation_tokens
from rcmed.training.batches.making import Batch, BatchMaker
from rcmed.training.batches.packed import pack, pack_control
from rcmed.training.batches.prefetching import made_ahead
from rcmed.training.batches.true_negatives import with_learnable_absences
from rcmed.training.checkpoints import CHECKPOINT, resume, write_checkpoint
from rcmed.training.curve import Curve
from rcmed.training.losses import as_share, prompt_losses, region_loss, total_loss
from rcmed.training.parameters import freeze_norm, parameter_groups
from rcmed.training.processes import Processes, fill, own_part, whole
from rcmed.training.schedule import warm_cosine
from rcmed.training.settings import Conversations, PresenceFit, TowerKind, TrainingSettings
from rcmed.training.stages.presence import (
    PresenceSamples,
    calibrate_presence,
    fit_presence,
    generator_of,
    presence_head,
)
from rcmed.training.stages.regions import fit_regions
from rcmed.training.stages.thresholds import choose_thresholds
from rcmed.training.start import start_model
from rcmed.training.training_pass import Answered, TrainingPass
from rcmed.training.validation import dice_by_target, hold_out, score_held_out, write_validation


class MadeBatch(NamedTuple):
    """What a step works on, on the CPU."""

    batch: Batch
    prompts: PromptTokens


class Trainer:
    """Trains a model on an index, or goes on where its output folder left off.

    Everything random of a step comes from (seed, step), so a resumed run draws what an unbroken one would have drawn.
    Runs in one process on the CPU or a GPU, or in several that share each step's images; in bf16 autocast, float32 or
    a GPU's TF32.
    """

    def __init__(self, settings: TrainingSettings, device: str = "cpu", processes: Processes | None = None) -> None:
        self.processes = processes or Processes(device)
        torch.manual_seed(settings.seed)
        torch.set_num_threads(settings.threads)
        torch.backends.cuda.matmul.allow_tf32 = settings.precision == "tf32"
        self.settings = settings
        self.device = self.processes.device
        if settings.batch_images < self.processes.count:
            raise ConfigurationError(
                f"batch_images: {settings.batch_images} images can't be shared by {self.processes.count} processes; "
                f"start fewer of them, or ask for more images"
            )
        triplets = without_targets(read_index(settings.index, settings.root), settings.left_out)
        if not triplets:
            raise ConfigurationError(f"index: {settings.index} names no image to train on")
        if settings.vision is TowerKind.EFFICIENTNET and self.processes.count > 1:
            raise ConfigurationError("vision: batch norms would differ between processes; start one")
        triplets, self.held_out = hold_out(triplets, settings.validation_share)
        if settings.validation_index is not None:
            self.held_out += without_targets(read_index(settings.validation_index, settings.root), settings.left_out)
        self.validate_every = settings.validate_every or -(-len(triplets) // settings.batch_images)
        lessons = [
            Lesson(name, t.modality.value, t.patient, name in t.masks)
            for t in triplets
            for name in {*t.labelled, *t.masks}
        ]
        self.model, self.processor = start_model(settings, sorted({lesson.target for lesson in lessons}))
        config = cast(RCMedConfig, self.model.config)
        known = () if settings.start_from is None else tuple(config.target_names)
        packed = with_learnable_absences([pack(triplet, settings.image_size) for triplet in triplets], known)
        packed += [each for control in settings.healthy_controls for each in pack_control(control, settings.image_size)]
        self.batches = BatchMaker(packed, settings)
        if settings.steps:
            config.teach(lessons)
        self.adapters = LanguageAdapters(self.model, settings.lora_rank) if settings.lora_rank else None
        self.model.language.decoder.get_input_embeddings().requires_grad_(True)
        self.before, self.after = self.processor.surroundings()
        # The CPU's fused attention has a slow backward pass at these lengths.
        self.model.language.decoder.set_attn_implementation("eager" if self.device.type == "cpu" else "sdpa")
        if not self.processes.holds_shards:  # Those are moved one after the other: the whole may not fit.
            self.model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload, arg-type]
        training_pass = TrainingPass(self.model)
        if self.processes.count > 1:
            training_pass.rows.put_into(self.model)
        optimiser = torch.optim.AdamW(
            parameter_groups(self.model, settings),
            lr=settings.learning_rate,
            betas=(0.9, 0.98),
            fused=True,
        )
        # Shards take the place of the parameters in both.
        self.training_pass, self.optimiser = self.processes.prepare(training_pass, optimiser, settings.precision)
        self.rows = training_pass.rows
        self.averaged = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        self.step = resume(settings.output / CHECKPOINT, self.model, self.averaged, self.optimiser)

    def train_step(self, made: MadeBatch | None = None) -> dict[str, float]:
        """One optimiser step; returns the terms of the loss. `made` is what `make_batch` makes of the step."""
        settings = self.settings
        batch, prompts = made or self.make_batch(self.step)
        # Dropout draws from torch's own generator: a resumed run must draw what an unbroken one does.
        torch.manual_seed(int(np.random.SeedSequence((settings.seed, self.step)).generate_state(1)[0]))
        factor = warm_cosine(self.step, settings.steps, settings.warmup_steps, lowest=0.02)
        for group in self.optimiser.param_groups:
            group["lr"] = settings.learning_rate * factor * group["rate"]
        self.model.train()
        if self.step >= settings.steps * (1 - settings.frozen_norm_share):
            self.model.vision.apply(freeze_norm)
        self.rows.are_of(batch.share)
        if batch.conversations is not None:
            self.rows.are_conversations(len(batch.conversations))
        answered = self._forward(self.training_pass, batch, prompts, settings.precision)
        terms = self._terms(answered.turns, batch.masks.to(self.device).float(), batch.present.to(self.device))
        if answered.words is not None:
            terms["words"] = answered.words
        if answered.region_logits is not None:
            terms["regions"] = region_loss(answered.region_logits, batch.regions.to(self.device))
        if self.processes.count > 1:
            terms = self._as_share(terms, batch, prompts)
        loss = total_loss(terms)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self._average()
        self.step += 1
        told = {"loss": loss, **terms}
        values = self.processes.total(torch.stack([value.detach().float() for value in told.values()]))
        return dict(zip(told, (values / self.processes.count).tolist(), strict=True))

    def make_batch(self, step: int) -> MadeBatch:
        """What a step of the first stage trains on; it depends on the seed and the step alone."""
        settings = self.settings
        batch = self.batches.make(
            np.random.default_rng((settings.seed, step)),
            settings.absent_rate,
            settings.reflection_rate if step >= settings.reflection_start else 0.0,
            settings.hint_rate,
            self.processes.share(settings.batch_images),
            settings.conversations is Conversations.PUBLISHED,
        )
        return MadeBatch(batch, self._prompts(batch))

    def _make_presence_batch(self, step: int) -> MadeBatch:
        settings = self.settings
        generator = generator_of(settings.seed, step)
        batch = self.batches.make(generator, settings.presence_absent_rate, settings.presence_reflection_rate)
        return MadeBatch(batch, self._prompts(batch))

    def _made_ahead(self, make: Callable[[int], MadeBatch], steps: range) -> Iterator[MadeBatch]:
        return made_ahead(make, steps, self.settings.batch_workers, pinned=self.device.type == "cuda")

    def _average(self) -> None:
        decay = min(self.settings.ema_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            current = {name: value for name, value in self.model.state_dict().items() if value.is_floating_point()}
            averaged = [own_part(self.averaged[name]) for name in current]
            torch._foreach_lerp_(averaged, [own_part(value) for value in current.values()], 1 - decay)

    def _as_share(self, terms: dict[str, Tensor], batch: Batch, prompts: PromptTokens) -> dict[str, Tensor]:
        of_prompts = len(batch.share.prompts) * self.processes.count / len(batch.share.asked)
        of_words = None if prompts.taught is None else self._relative((prompts.taught[:, 1:] >= 0).sum())
        return as_share(terms, of_prompts, self._relative(batch.present.sum()), of_words)

    def _relative(self, own: Tensor) -> Tensor:
        """A number of this process over the mean of all; a term of nothing was a mean over one."""
        own = own.float().to(self.device)
        mean = (self.processes.total(own) / self.processes.count).clamp(min=1 / self.processes.count)
        return own.clamp(min=1) / mean

    @staticmethod
    def _terms(turns: Sequence[tuple[Tensor, Tensor | None]], masks: Tensor, present: Tensor) -> dict[str, Tensor]:
        """The terms of the loss, as means over the turns of the closed loop: each is taught the whole answer."""
        of_turns = []
        for mask_logits, presence_logits in turns:
            size = masks.shape[-2:]
            logits = F.interpolate(mask_logits[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
            of_turns.append(prompt_losses(logits, presence_logits, masks, present))
        return {name: torch.stack([terms[name] for terms in of_turns]).mean() for name in of_turns[0]}

    def _prompts(self, batch: Batch) -> PromptTokens:
        """What is asked, in words."""
        if batch.conversations is not None:
            modalities = [batch.modalities[index] for index in batch.image_index.tolist()]
            return conversation_tokens(self.processor, batch.conversations, batch.names, modalities)
        tokens = self.processor.prepare_prompts(*zip(*batch.share.asked, strict=True))
        return tokens.part(batch.share.prompts.start, batch.share.prompts.stop)

    def _forward(
        self, module: Callable[..., Answered], batch: Batch, prompts: PromptTokens, precision: str
    ) -> Answered:
        pixels = self._pixels(batch)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
            return module(
                pixels,
                self.before.to(self.device),
                self.after.to(self.device),
                batch.image_index.to(self.device),
                prompts.to(self.device),
                None if batch.hints is None else batch.hints.to(self.device),
            )

    def _pixels(self, batch: Batch) -> Tensor:
        """What the model sees, on its device: float (image, 3, size, size)."""
        pixels = self.processor.normalise(batch.pixels.to(self.device, non_blocking=True))
        return pixels if self.processor.pads_before_normalising else pixels * batch.inside.to(self.device)

    def train_presence(self, advance: Callable[[], None] = lambda: None) -> None:
        """The second stage, on the averaged weights: see `rcmed.training.stages.presence`."""
        settings = self.settings
        if not settings.presence_steps:
            return
        model = self._model_of(self._averaged_weights(are_kept=True))
        model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload, arg-type]
        model.requires_grad_(False)
        model.eval()
        head = presence_head(model)
        gathered: list[Tensor] = []
        listening = head.register_forward_pre_hook(lambda _, arguments: gathered.append(arguments[0]))
        names: list[str] = []
        present: list[Tensor] = []
        own_steps = self.processes.share(settings.presence_steps)
        for batch, prompts in self._made_ahead(self._make_presence_batch, own_steps):
            # As the weights are used: what hardly varies is another value in bf16, and in a GPU's TF32.
            torch.backends.cuda.matmul.allow_tf32 = False
            with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
                self._forward(TrainingPass(model), batch, prompts, "fp32")
            names += batch.names
            present.append(batch.present)
            # Of the closed loop's turns the last one answers.
            del gathered[len(present) - 1 : -1]
            advance()
        listening.remove()
        # In the order of the steps, as one process would have gathered them.
        parts = self.processes.gather([(torch.cat(gathered).cpu(), names, torch.cat(present))] if own_steps else [])
        evidence, present = torch.cat([part[0] for part in parts]), [part[2] for part in parts]
        samples = PresenceSamples(evidence.to(self.device), [n for part in parts for n in part[1]], torch.cat(present))
        if settings.presence_fit is PresenceFit.CALIBRATED:
            calibrate_presence(head, samples)
        else:
            fit_presence(head, samples, settings.presence_learning_rate, settings.seed)
        (place,) = (name for name, module in model.named_modules() if module is head)
        for name, value in head.state_dict().items():
            fill(self.averaged[f"{place}.{name}"], value)

    def train_regions(self) -> None:
        """The last stage, on the averaged weights: see `stages.regions`. All processes do the same."""
        if not self.settings.region_steps:
            return
        if not self.settings.dataset_regions:
            raise ConfigurationError("region_steps: dataset_regions tells nothing to learn; tell it, or use 0")
        model = self._model_of(self._averaged_weights(are_kept=True)).requires_grad_(False).eval()
        model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload, arg-type]
        assert model.region_head is not None
        evidence, known = [], []
        for batch, _ in self._made_ahead(self._make_presence_batch, range(self.settings.region_steps)):
            with torch.inference_mode():
                evidence.append(region_evidence(model.vision(self._pixels(batch))).cpu())
            known.append(batch.regions)
        fit_regions(model.region_head.cpu(), torch.cat(evidence).clone(), torch.cat(known), self.settings.seed)
        for name, value in model.region_head.state_dict().items():
            fill(self.averaged[f"region_head.{name}"], value)

    def run(self, show_progress: bool = True) -> Path:
        """Train to the end; returns the folder of the finished model."""
        output = self.settings.output
        output.mkdir(parents=True, exist_ok=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        is_main = self.processes.is_main
        with Progress(*columns, disable=not (show_progress and is_main)) as progress, Curve(output, is_main) as curve:
            task = progress.add_task("training", total=self.settings.steps, completed=self.step)
            for made in self._made_ahead(self.make_batch, range(self.step, self.settings.steps)):
                terms = self.train_step(made)
                progress.update(task, completed=self.step, description=f"loss {terms['loss']:.3f}")
                rate = self.optimiser.param_groups[0]["lr"]
                curve.add(self.step, terms, learning_rate=rate, images=self.settings.batch_images)
                if self.step % self.settings.checkpoint_every == 0:
                    self.save_checkpoint()
                if self.step % self.validate_every == 0 and self.step < self.settings.steps:
                    self.validate(curve)
            self.save_checkpoint()
            task = progress.add_task("presence", total=len(self.processes.share(self.settings.presence_steps)))
            self.train_presence(lambda: progress.update(task, advance=1))
            self.train_regions()
            self.choose_thresholds()
            self.validate(curve)
        return self.save_model(output / "model")

    def validate(self, curve: Curve) -> None:
        """Score the averaged weights on the patients that are held out, and write the table; nothing where none are."""
        if not self.held_out:
            return
        rows = self._score()
        if self.processes.is_main:
            write_validation(rows, self.step, self.settings.output)
            curve.add_validation(self.step, dice_by_target(rows))

    def choose_thresholds(self) -> None:
        """Set where presence becomes a word by the patients that are held out; it stays where they are too few."""
        thresholds = choose_thresholds(self._score()) if self.held_out else None
        if thresholds is not None:
            cast(RCMedConfig, self.model.config).presence_thresholds = list(thresholds)

    def _score(self) -> list[ScoreRow]:
        """The averaged weights, asked as in use of the patients that are held out."""
        model = self._model_of(self._averaged_weights(are_kept=True))
        model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload, arg-type]
        return score_held_out(model, self.processor, self.held_out, self.settings.root, self.processes)

    def save_model(self, folder: Path) -> Path:
        """Write the averaged weights as a model folder that `from_pretrained` reads; all processes must call it."""
        weights = self._averaged_weights(self.processes.is_main)
        if self.processes.is_main:
            folded(self._model_of(weights)).save_pretrained(str(folder))
            self.processor.save_pretrained(folder)
        return folder

    def _averaged_weights(self, are_kept: bool) -> dict[str, Tensor]:
        """On the CPU; one at a time is put together from its shards, so that who keeps none needs no memory."""
        together = ((name, whole(value)) for name, value in self.averaged.items())
        return {name: value.cpu() for name, value in together if are_kept}

    def _model_of(self, weights: dict[str, Tensor]) -> RCMedModel:
        model = RCMedModel(cast(RCMedConfig, self.model.config))
        adapters = LanguageAdapters(model, self.settings.lora_rank) if self.settings.lora_rank else None
        model.load_state_dict(weights)
        return model if adapters is None else adapters.merge()

    def save_checkpoint(self) -> None:
        """Write weights, averages and optimiser state so that the run can go on; atomic."""
        self.settings.output.mkdir(parents=True, exist_ok=True)
        path = self.settings.output / CHECKPOINT
        write_checkpoint(path, self.step, self.model, self.averaged, self.optimiser, self.processes.is_main)
        self.save_model(self.settings.output / "model")
