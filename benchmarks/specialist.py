"""A specialist: a MONAI UNet that learns one data set alone, on the pictures that the joint training would show it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from monai.networks.nets import UNet
from numpy.typing import NDArray
from torch import Tensor, nn

from rcmed.data.triplets import Triplet
from rcmed.model.processor import RCMedProcessor, to_masks
from rcmed.training.batches.making import BatchMaker
from rcmed.training.batches.packed import PackedTriplet, pack
from rcmed.training.checkpoints import CHECKPOINT, resume, write_checkpoint
from rcmed.training.losses import prompt_losses, total_loss
from rcmed.training.schedule import warm_cosine
from rcmed.training.settings import TrainingSettings

BATCH_IMAGES = 4
LEARNING_RATE = 2e-3
WARMUP_STEPS = 50
CHECKPOINT_SECONDS = 60.0
# The averages span a twentieth of the run: runs differ tenfold in length.
AVERAGED_SHARE = 0.05


def build_network(target_count: int) -> nn.Module:
    """Masks at half the image size, as the joint model's; 7.0 M parameters, most of them deep, where pixels are few.

    MONAI's UNet alone would end in a residual unit of as many channels as targets: with one target, learning to be sure
    then takes thousands of steps.
    """
    features = UNet(
        spatial_dims=2,
        in_channels=12,
        out_channels=8,
        channels=(16, 24, 32, 64, 128, 288, 512),
        strides=(1, 2, 2, 2, 2, 2),
        num_res_units=2,
        norm="BATCH",
        # Instead of MONAI's PReLU, whose backward pass takes an eighth of the time on a CPU.
        act=("LEAKYRELU", {"negative_slope": 0.01, "inplace": True}),
    )
    return nn.Sequential(nn.PixelUnshuffle(2), features, nn.LeakyReLU(0.01), nn.Conv2d(8, target_count, 1))


def ask_for_all(packed: PackedTriplet) -> PackedTriplet:
    """The same picture, in which absent targets have an empty mask: all that was labelled is asked in every step."""
    size = packed.pixels.shape[-1]
    nothing = np.zeros((size, size // 8), dtype=np.uint8)
    return replace(packed, masks={**{name: nothing for name in packed.absent}, **packed.masks}, absent=())


class Specialist:
    """One data set's network with its training; a run that its folder holds goes on.

    All that is random of a step comes from (seed, step), as in the joint training, whose augmentation and losses are
    used. Reflections are left out: they teach presence. What was not labelled in an image counts nothing there.

    Attributes:
        names: of the targets, in the order of the network's channels.
        steps: of `BATCH_IMAGES` images each, of the whole run.
        step: how many are done.
    """

    def __init__(
        self,
        triplets: Sequence[Triplet],
        image_steps: int,
        settings: TrainingSettings,
        processor: RCMedProcessor,
        folder: Path,
    ) -> None:
        """Read all images into memory on the model grid.

        Args:
            triplets: the data set's training images.
            image_steps: how often an image is shown, all images together.
            settings: of the joint run: augmentation, image size, weight decay and seed are taken from them.
            processor: of the joint model; normalises the pixels.
            folder: of the checkpoint.
        """
        self.settings = settings
        self.processor = processor
        self.folder = folder
        self.names = sorted({name for each in triplets for name in (*each.labelled, *each.masks)})
        self.steps = max(1, math.ceil(image_steps / BATCH_IMAGES))
        packed = [ask_for_all(pack(each, settings.image_size)) for each in triplets]
        drawing = settings.model_copy(update={"batch_images": BATCH_IMAGES, "prompts_per_image": len(self.names)})
        self.batches = BatchMaker(packed, drawing)
        torch.manual_seed(settings.seed)
        self.network = build_network(len(self.names)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        parameters = list(self.network.parameters())
        self.optimiser = torch.optim.AdamW(
            [
                {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
                {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
            ],
            lr=LEARNING_RATE,
            fused=True,
        )
        folder.mkdir(parents=True, exist_ok=True)
        self.step = resume(folder / CHECKPOINT, self.network, self.averaged, self.optimiser)

    def train(self, last: int | None = None) -> Iterator[tuple[float, float]]:
        """Train to the end, or to a step before it, with a checkpoint there and every `CHECKPOINT_SECONDS`.

        Yields:
            after each checkpoint the mean loss and the processor's seconds since the one before.
        """
        last = self.steps if last is None else min(last, self.steps)
        began = time.process_time()
        losses: list[float] = []
        while self.step < last:
            losses.append(self.train_step())
            if time.process_time() - began > CHECKPOINT_SECONDS or self.step == last:
                self.save_checkpoint()
                yield float(np.mean(losses)), time.process_time() - began
                began = time.process_time()
                losses.clear()

    def train_step(self) -> float:
        """One optimiser step; returns the loss."""
        batch = self.batches.make(np.random.default_rng((self.settings.seed, self.step)), 0.0, 0.0)
        channels = torch.tensor([self.names.index(name) if name in self.names else -1 for name in batch.names])
        asked = channels >= 0  # A flip may name a side that the data set does not have.
        if not asked.any():
            self.step += 1
            return 0.0
        warmup = min(WARMUP_STEPS, self.steps // 10 + 1)
        for group in self.optimiser.param_groups:
            group["lr"] = LEARNING_RATE * warm_cosine(self.step, self.steps, warmup, lowest=0.02)
        self.network.train()
        pixels = self.processor.normalise(batch.pixels).to(memory_format=torch.channels_last)
        logits = F.interpolate(self.network(pixels), size=pixels.shape[-2:], mode="bilinear", align_corners=False)
        chosen = logits[batch.image_index[asked], channels[asked]]
        loss = total_loss(prompt_losses(chosen, None, batch.masks[asked].float(), batch.present[asked]))
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        self._average()
        self.step += 1
        return float(loss.detach())

    def _average(self) -> None:
        decay = min(1 - 1 / max(2.0, AVERAGED_SHARE * self.steps), (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, value in self.network.state_dict().items():
                if value.is_floating_point():
                    self.averaged[name].lerp_(value, 1 - decay)

    def save_checkpoint(self) -> None:
        """Write weights, averages and optimiser state; atomic."""
        path = self.folder / CHECKPOINT
        write_checkpoint(path, self.step, self.network, self.averaged, self.optimiser, is_writer=True)

    def answering(self) -> Callable[[Triplet], dict[str, NDArray[np.bool_]]]:
        """What the averaged weights find: by target, bool (row, column) on the image's own grid."""
        network = build_network(len(self.names)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        network.load_state_dict(self.averaged)
        network.eval()

        @torch.inference_mode()
        def find(triplet: Triplet) -> dict[str, NDArray[np.bool_]]:
            pixels = triplet.read_pixels()
            logits: Tensor = network(self.processor.prepare_pixels(pixels[None]))[0]
            masks = to_masks(logits[:, None], *pixels.shape[:2], self.settings.image_size)
            return dict(zip(self.names, masks[:, 0], strict=True))

        return find
