"""A step's batch of images, shared out among the processes of a run so that together they do what one would.

What is random of a step is drawn for the whole batch in every process, in the same order; each then works on its own
images alone. A loss is a mean over all prompts of the step: a process counts by how many of them are its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from rcmed.modality import Modality


@dataclass(frozen=True)
class Share:
    """The part of a step's batch that one process takes.

    Attributes:
        images, prompts: its own, by their numbers in the step's batch; both without a gap.
        image_count: of the whole batch.
        asked: (target's name, modality) of every prompt of the whole batch.
    """

    images: range
    prompts: range
    image_count: int
    asked: Sequence[tuple[str, Modality]]


class SharedDropout(nn.Module):
    """Dropout that drops in a process what it would drop in the same images or prompts if one process had them all.

    It draws for the whole batch and keeps its own rows. Needs torch's generator in the same state in every process, and
    `rows` to say what the first axis of its input is.
    """

    def __init__(self, rate: float, rows: Rows, reads: bool) -> None:
        """Take the place of a dropout; `reads`: of the language decoder, which may read several prompts in one row."""
        super().__init__()
        self.rate = rate
        self.rows = rows
        self.reads = reads

    def forward(self, values: Tensor) -> Tensor:
        """Drop values of float (row, ...)."""
        if not self.training:
            return values
        own, count = self.rows.of_images if self.rows.are_images else self.rows.of_prompts
        if self.reads and not self.rows.are_images:
            own, count = self.rows.of_reading
        kept = F.dropout(values.new_ones(count, *values.shape[1:]), self.rate)
        return values * kept[own.start : own.stop]


class Rows:
    """What the rows are that a model's layers see at the moment: the images of a share, or its prompts."""

    def __init__(self) -> None:
        self.are_images = True
        self.of_images = self.of_prompts = self.of_reading = (range(0), 0)

    def are_of(self, share: Share) -> None:
        """A pass over this share begins, with its images."""
        self.are_images = True
        self.of_images = (share.images, share.image_count)
        self.of_prompts = self.of_reading = (share.prompts, len(share.asked))

    def are_conversations(self, count: int) -> None:
        """Prompts are read in so many conversations of this process: what drops out of them is its own."""
        self.of_reading = (range(count), count)

    def put_into(self, model: nn.Module) -> None:
        """Make every dropout of a model a shared one."""
        for place, module in list(model.named_modules()):
            reads = place.startswith("language.")
            for name, child in list(module.named_children()):
                if isinstance(child, nn.Dropout):
                    module.add_module(name, SharedDropout(child.p, self, reads).train(child.training))
