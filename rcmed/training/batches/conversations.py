"""What is said about an image in training: as published, one conversation with several targets, partly described.

Of an image's targets that are in view a conversation asks for all, with a description of the regions before the answer
(four times in ten) or without (as often), or for a random part of them (twice in ten); its answer is learned word for
word, and each `[SEG]` of it prompts a mask. A target that is not in view, or was not drawn, is asked for alone, and
nothing is learned from the words: they would say that it is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rcmed.description import DeterministicDescriber
from rcmed.description.describer import shortened
from rcmed.image import Grid, Image
from rcmed.modality import Modality
from rcmed.model.instruction import SEGMENTATION_MARK, turns_of
from rcmed.model.modeling import PromptTokens
from rcmed.model.processor import RCMedProcessor

DESCRIBED_RATE = 0.4
ALL_RATE = 0.4
_LONGEST_CAPTION = 512
_NOT_TAUGHT = -100


@dataclass(frozen=True)
class Conversation:
    """A question for targets of one image, and its answer.

    Attributes:
        prompts: numbers of the prompts of a batch that it asks for; all of one image, at least one.
        caption: said before the answer; "" where nothing is.
        is_taught: whether its answer is learned word for word.
    """

    prompts: tuple[int, ...]
    caption: str = ""
    is_taught: bool = True


@dataclass(frozen=True)
class ConversationDraw:
    """All that is random of an image's conversation; drawn before it is known what is in view.

    Attributes:
        kind: in [0, 1): which of the three.
        share: in [0, 1): how large a random part is.
        order: keys by which a random part is chosen, one for each target that an image may be asked for.
    """

    kind: float
    share: float
    order: tuple[float, ...]

    @classmethod
    def of(cls, generator: np.random.Generator, most_prompts: int) -> ConversationDraw:
        """Draw it for an image of at most so many prompts."""
        return cls(generator.random(), generator.random(), tuple(generator.random(most_prompts).tolist()))

    @property
    def is_described(self) -> bool:
        """Whether a description comes before the answer."""
        return self.kind < DESCRIBED_RATE

    def chosen(self, in_view: Sequence[int]) -> tuple[int, ...]:
        """Those of the numbers in view that are asked for, in their order."""
        if self.kind < DESCRIBED_RATE + ALL_RATE:
            return tuple(in_view)
        count = 1 + int(self.share * len(in_view))
        ranked = sorted(range(len(in_view)), key=lambda place: self.order[place])
        return tuple(in_view[place] for place in sorted(ranked[:count]))


def converse(
    draw: ConversationDraw,
    numbers: Sequence[int],
    names: Sequence[str],
    masks: Tensor,
    pixels: Tensor,
    inside: Tensor,
    modality: Modality,
) -> list[Conversation]:
    """The conversations about one image, so that each of its prompts is in one of them.

    Args:
        draw: of the image.
        numbers: of its prompts in the batch.
        names: of all prompts of the batch.
        masks: bool (prompt, row, column) of all prompts of the batch, as the model sees the image.
        pixels: float (3, row, column) in [0, 255], as the model sees it.
        inside: bool (1, row, column): False at padding.
        modality: of the image.
    """
    in_view = [number for number in numbers if bool(masks[number].any())]
    told: tuple[int, ...] = ()
    conversations = []
    if in_view:
        told = draw.chosen(in_view)
        caption = ""
        if draw.is_described:
            caption = _described([names[number] for number in told], masks[list(told)], pixels, inside, modality)
        conversations.append(Conversation(told, caption))
    alone = [number for number in numbers if number not in told]
    return conversations + [Conversation((number,), is_taught=False) for number in alone]


def _described(names: Sequence[str], masks: Tensor, pixels: Tensor, inside: Tensor, modality: Modality) -> str:
    """The colour region descriptions of an image, in pixels: nobody knows its millimetres here."""
    rows, columns = (torch.nonzero(inside[0].any(axis)).flatten() for axis in (1, 0))
    shown = (slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1))
    picture = pixels[:, *shown].round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0)[None].numpy()
    image = Image(picture, Grid.without_geometry(*picture.shape[1:3]), modality)
    regions = {name: mask[shown][None].numpy() for name, mask in zip(names, masks, strict=True)}
    words = DeterministicDescriber().describe(image, regions)
    return shortened(" ".join(text for text in words.values() if text), _LONGEST_CAPTION)


def conversation_tokens(
    processor: RCMedProcessor,
    conversations: Sequence[Conversation],
    names: Sequence[str],
    modalities: Sequence[Modality],
) -> PromptTokens:
    """Conversations as tokens, a row for each.

    Args:
        processor: of the model.
        conversations: each prompt of the batch is in one of them.
        names, modalities: of each prompt of the batch.
    """
    vocabulary = processor.tokenizer.get_vocab()
    opening, close, mark = (vocabulary[token] for token in ("<p>", "</p>", SEGMENTATION_MARK))
    rows: list[list[int]] = []
    answers: list[int] = []
    places: dict[int, tuple[int, int, int, int]] = {}
    for row, conversation in enumerate(conversations):
        first = conversation.prompts[0]
        asked, said = turns_of([names[n] for n in conversation.prompts], modalities[first], conversation.caption)
        question = processor.ids_behind_image(asked)
        ids = [*processor.ids_behind_image(f"{asked} {said}"), int(processor.tokenizer.eos_token_id)]
        answers.append(_common_length(question, ids) if conversation.is_taught else len(ids))
        rows.append(ids)
        marks = [place for place, token in enumerate(ids) if token == mark]
        for number, place in zip(conversation.prompts, marks, strict=True):
            end = _last(ids, close, place)
            start = _last(ids, opening, end) + 1
            places[number] = (row, place - 1 if processor.reads_up_to_mark else end, start, end)
    length = max(len(ids) for ids in rows)
    tokens = torch.full((len(rows), length), int(processor.tokenizer.pad_token_id), dtype=torch.long)
    attended = torch.zeros(len(rows), length, dtype=torch.bool)
    taught = torch.full((len(rows), length), _NOT_TAUGHT, dtype=torch.long)
    for row, (ids, answer) in enumerate(zip(rows, answers, strict=True)):
        tokens[row, : len(ids)] = torch.tensor(ids)
        attended[row, : len(ids)] = True
        taught[row, answer : len(ids)] = tokens[row, answer : len(ids)]
    ordered = [places[number] for number in range(len(names))]
    words = torch.zeros(len(names), length, dtype=torch.bool)
    for number, (_, _, start, end) in enumerate(ordered):
        words[number, start:end] = True
    return PromptTokens(
        tokens=tokens,
        attended=attended,
        seg_position=torch.tensor([place for _, place, _, _ in ordered]),
        name=words,
        row=torch.tensor([row for row, _, _, _ in ordered]),
        taught=taught,
    )


def _common_length(one: Sequence[int], other: Sequence[int]) -> int:
    """With how many tokens both begin alike: the last one of a question may be cut otherwise with an answer behind."""
    for place, (token, twin) in enumerate(zip(one, other, strict=False)):
        if token != twin:
            return place
    return min(len(one), len(other))


def _last(ids: Sequence[int], token: int, before: int) -> int:
    """The last place of a token before another place."""
    return max(place for place in range(before) if ids[place] == token)
