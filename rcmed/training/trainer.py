"""The training loop: resumable, seeded by step, with averaged weights and a curve."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import load_file, save_file
from torch import Tensor

from rcmed.data.triplets import read_index, without_targets
from rcmed.errors import ConfigurationError
from rcmed.model.config import RCMedConfig
from rcmed.model.modeling import RCMedModel, RCMedOutput
from rcmed.model.packaged import model_folder
from rcmed.model.processor import RCMedProcessor
from rcmed.model.tokenizer import build_tokenizer
from rcmed.training.adapters import LanguageAdapters
from rcmed.training.batches import Batch, BatchMaker
from rcmed.training.losses import prompt_losses, total_loss
from rcmed.training.packed import pack, pack_control
from rcmed.training.presence_stage import PresenceSamples, fit_presence, generator_of, presence_head
from rcmed.training.schedule import warm_cosine
from rcmed.training.settings import TrainingSettings


class Trainer:
    """Trains a model on an index, or goes on where its output folder left off.

    Everything random of a step comes from (seed, step), so a resumed run draws what an unbroken one would have drawn.
    Runs on the CPU or one GPU; bf16 autocast or float32.
    """

    def __init__(self, settings: TrainingSettings, device: str = "cpu") -> None:
        torch.manual_seed(settings.seed)
        torch.set_num_threads(settings.threads)
        self.settings = settings
        self.device = torch.device(device)
        triplets = without_targets(read_index(settings.index, settings.root), settings.left_out)
        if not triplets:
            raise ConfigurationError(f"index: {settings.index} names no image to train on")
        packed = [pack(triplet, settings.image_size) for triplet in triplets]
        packed += [each for control in settings.healthy_controls for each in pack_control(control, settings.image_size)]
        self.batches = BatchMaker(packed, settings)
        pairs = {(name, t.modality.value) for t in triplets for name in (*t.labelled, *t.masks)}
        self.model, self.processor = _started(settings, sorted({name for name, _ in pairs}))
        cast(RCMedConfig, self.model.config).teach(pairs)
        self.adapters = LanguageAdapters(self.model, settings.lora_rank) if settings.lora_rank else None
        self.model.language.decoder.get_input_embeddings().requires_grad_(True)
        self.before, self.after = self.processor.surroundings()
        # The CPU's fused attention has a slow backward pass at these lengths.
        self.model.language.decoder.set_attn_implementation("eager" if self.device.type == "cpu" else "sdpa")
        self.model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload, arg-type]
        self.averaged = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        decay = [p for p in trained if p.ndim > 1]
        plain = [p for p in trained if p.ndim <= 1]
        self.optimiser = torch.optim.AdamW(
            [{"params": decay, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}],
            lr=settings.learning_rate,
            betas=(0.9, 0.98),
            fused=True,
        )
        self.step = 0
        self._resume()

    def train_step(self) -> dict[str, float]:
        """One optimiser step; returns the terms of the loss."""
        settings = self.settings
        generator = np.random.default_rng((settings.seed, self.step))
        # Dropout draws from torch's own generator: a resumed run must draw what an unbroken one does.
        torch.manual_seed(int(np.random.SeedSequence((settings.seed, self.step)).generate_state(1)[0]))
        reflection_rate = settings.reflection_rate if self.step >= settings.reflection_start else 0.0
        batch = self.batches.make(generator, settings.absent_rate, reflection_rate, settings.hint_rate)
        factor = warm_cosine(self.step, settings.steps, settings.warmup_steps, lowest=0.02)
        for group in self.optimiser.param_groups:
            group["lr"] = settings.learning_rate * factor
        self.model.train()
        output = self._forward(self.model, batch, settings.precision)
        assert output.turns is not None
        terms = self._terms(output.turns, batch.masks.float().to(self.device), batch.present.to(self.device))
        loss = total_loss(terms)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        decay = min(settings.ema_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            current = {name: value for name, value in self.model.state_dict().items() if value.is_floating_point()}
            torch._foreach_lerp_([self.averaged[name] for name in current], list(current.values()), 1 - decay)
        self.step += 1
        return {"loss": loss.item(), **{name: term.item() for name, term in terms.items()}}

    @staticmethod
    def _terms(turns: Sequence[tuple[Tensor, Tensor | None]], masks: Tensor, present: Tensor) -> dict[str, Tensor]:
        """The terms of the loss, as means over the turns of the closed loop: each is taught the whole answer."""
        of_turns = []
        for mask_logits, presence_logits in turns:
            size = masks.shape[-2:]
            logits = F.interpolate(mask_logits[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
            of_turns.append(prompt_losses(logits, presence_logits, masks, present))
        return {name: torch.stack([terms[name] for terms in of_turns]).mean() for name in of_turns[0]}

    def _forward(self, model: RCMedModel, batch: Batch, precision: str) -> RCMedOutput:
        modalities = [batch.modalities[index] for index in batch.image_index.tolist()]
        tokens = self.processor.prepare_prompts(batch.names, modalities).to(self.device)
        pixels = self.processor.normalise(batch.pixels)
        if not self.processor.pads_before_normalising:
            pixels = pixels * batch.inside
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
            output: RCMedOutput = model(
                pixels.to(self.device),
                self.before.to(self.device),
                self.after.to(self.device),
                batch.image_index.to(self.device),
                tokens,
                None if batch.hints is None else batch.hints.to(self.device),
            )
        return output

    def train_presence(self, advance: Callable[[], None] = lambda: None) -> None:
        """The second stage, on the averaged weights: see `rcmed.training.presence_stage`."""
        settings = self.settings
        if not settings.presence_steps:
            return
        model = self._averaged_model()
        model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload, arg-type]
        model.requires_grad_(False)
        model.eval()
        head = presence_head(model)
        gathered: list[Tensor] = []
        listening = head.register_forward_pre_hook(lambda _, arguments: gathered.append(arguments[0]))
        names: list[str] = []
        present: list[Tensor] = []
        for step in range(settings.presence_steps):
            generator = generator_of(settings.seed, step)
            batch = self.batches.make(generator, settings.presence_absent_rate, settings.presence_reflection_rate)
            # As the weights are used: what hardly varies is another value in bf16.
            self._forward(model, batch, "fp32")
            names += batch.names
            present.append(batch.present)
            # Of the closed loop's turns the last one answers.
            del gathered[len(present) - 1 : -1]
            advance()
        listening.remove()
        samples = PresenceSamples(torch.cat(gathered), names, torch.cat(present))
        fit_presence(head, samples, settings.presence_learning_rate, settings.seed)
        (place,) = (name for name, module in model.named_modules() if module is head)
        for name, value in head.state_dict().items():
            self.averaged[f"{place}.{name}"].copy_(value)

    def run(self, show_progress: bool = True) -> Path:
        """Train to the end; returns the folder of the finished model."""
        output = self.settings.output
        output.mkdir(parents=True, exist_ok=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        started, recent = time.monotonic(), []
        with Progress(*columns, disable=not show_progress) as progress, (output / "curve.jsonl").open("a") as curve:
            task = progress.add_task("training", total=self.settings.steps, completed=self.step)
            while self.step < self.settings.steps:
                recent.append(self.train_step())
                progress.update(task, completed=self.step, description=f"loss {recent[-1]['loss']:.3f}")
                if self.step % 50 == 0:
                    means = {name: round(float(np.mean([r[name] for r in recent])), 4) for name in recent[0]}
                    means |= {"step": self.step, "seconds": round(time.monotonic() - started, 1)}
                    curve.write(json.dumps(means) + "\n")
                    curve.flush()
                    recent = []
                if self.step % self.settings.checkpoint_every == 0:
                    self.save_checkpoint()
            self.save_checkpoint()
            task = progress.add_task("presence", total=self.settings.presence_steps)
            self.train_presence(lambda: progress.update(task, advance=1))
        return self.save_model(output / "model")

    def save_model(self, folder: Path) -> Path:
        """Write the averaged weights as a model folder that `from_pretrained` reads."""
        self._averaged_model().save_pretrained(str(folder))
        self.processor.save_pretrained(folder)
        return folder

    def _averaged_model(self) -> RCMedModel:
        model = RCMedModel(cast(RCMedConfig, self.model.config))
        adapters = LanguageAdapters(model, self.settings.lora_rank) if self.settings.lora_rank else None
        model.load_state_dict({name: value.cpu() for name, value in self.averaged.items()})
        return model if adapters is None else adapters.merge()

    def save_checkpoint(self) -> None:
        """Write weights, averages and optimiser state so that the run can go on; atomic."""
        folder = self.settings.output
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"model.{k}": v.contiguous() for k, v in self.model.state_dict().items()}
        tensors |= {f"averaged.{k}": v.contiguous() for k, v in self.averaged.items()}
        for index, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{key}": value.clone().contiguous() for key, value in state.items()}
        partial = folder / "checkpoint.partial"
        save_file(tensors, partial, metadata={"step": str(self.step)})
        os.replace(partial, folder / "checkpoint.safetensors")
        self.save_model(folder / "model")

    def _resume(self) -> None:
        path = self.settings.output / "checkpoint.safetensors"
        if not path.exists():
            return
        from safetensors import safe_open

        with safe_open(path, "pt") as opened:
            self.step = int(opened.metadata()["step"])
        tensors = load_file(path, device=str(self.device))
        self.model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
        for name, value in self.averaged.items():
            value.copy_(tensors[f"averaged.{name}"])
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("optimiser."):
                _, index, name = key.split(".", 2)
                state.setdefault(int(index), {})[name] = value
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": state, "param_groups": groups})
        # The fused optimiser walks parameters and moments side by side in memory: both must be channels_last alike.
        for parameter, moments in self.optimiser.state.items():
            for name in ("exp_avg", "exp_avg_sq"):
                moments[name] = torch.empty_like(parameter).copy_(moments[name])


def _started(settings: TrainingSettings, names: list[str]) -> tuple[RCMedModel, RCMedProcessor]:
    """A fresh model with a tokenizer of its own, or one that goes on from the weights that the settings name."""
    if settings.start_from is not None:
        config = RCMedConfig.from_pretrained(str(model_folder(settings.start_from)))
        config.loop_turns = settings.loop_turns
        config.takes_hints = config.takes_hints or settings.hint_rate > 0
        model = RCMedModel.from_pretrained(settings.start_from, config=config, dtype=torch.float32)
        processor = RCMedProcessor.from_pretrained(settings.start_from)
        if processor.image_size != settings.image_size:
            raise ConfigurationError(
                f"image_size: {settings.start_from} was trained at {processor.image_size}: use that"
            )
        return model, processor
    tokenizer = build_tokenizer(names)
    config = RCMedConfig(
        image_size=settings.image_size,
        target_names=tuple(names),
        loop_turns=settings.loop_turns,
        takes_hints=settings.hint_rate > 0,
    )
    config.language["vocab_size"] = len(tokenizer)
    config.language["bos_token_id"], config.language["eos_token_id"] = 0, 1
    return RCMedModel(config), RCMedProcessor(tokenizer, config.image_size, config.pixel_mean, config.pixel_std)
