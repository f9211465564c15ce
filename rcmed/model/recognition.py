"""Recognition: with nothing named, the answer is written by the language model, and its names are what was seen.

Only answers that can be read are open to it: `<p> name </p> [SEG]` phrases of names that it may use, each once, with
commas and a last "and" between them, as in the training text. Greedy, so the same image gives the same answer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rcmed.modality import Modality
from rcmed.model.instruction import SEGMENTATION_MARK, open_answer
from rcmed.model.language import ReadPrompts
from rcmed.model.modeling import EncodedImage, RCMedModel
from rcmed.model.processor import RCMedProcessor

MOST_NAMES = 24
_END = "."


@torch.inference_mode()
def recognise(
    model: RCMedModel,
    processor: RCMedProcessor,
    encoded: EncodedImage,
    index: int,
    names: Sequence[str],
    modality: Modality,
) -> list[str]:
    """The targets that the model's answer names, in its order.

    Args:
        encoded: images.
        index: of the one to be answered about.
        names: that the answer may use.
    """
    left = list(dict.fromkeys(names))
    if not left:
        return []
    text = open_answer(modality)
    ids = processor.ids_behind_image(text)
    tokens = torch.tensor([ids], device=model.device)
    read = model.language.read_prompts(
        encoded.prefix,
        torch.tensor([index], device=model.device),
        tokens,
        torch.ones_like(tokens, dtype=torch.bool),
        torch.tensor([len(ids) - 1], device=model.device),
    )
    logits = model.language.next_token_logits(read.state)[0]
    seen: list[str] = []
    is_last = False
    while left and not is_last and len(seen) < MOST_NAMES:
        # The opening ends with the first "<p>"; later phrases begin behind a "[SEG]".
        openings = [""] if not seen else [", <p>", " and <p>"]
        phrases = {
            f"{opening} {name} </p> {SEGMENTATION_MARK}": (name, opening.startswith(" and"))
            for opening in openings
            for name in left
        }
        choices = [*phrases, _END] if seen else list(phrases)
        chosen, read, logits = _write_one_of(model, processor, text, choices, read, logits)
        if chosen == _END:
            break
        name, is_last = phrases[chosen]
        seen.append(name)
        left.remove(name)
        text += chosen
    return seen


def _write_one_of(
    model: RCMedModel,
    processor: RCMedProcessor,
    text: str,
    choices: Sequence[str],
    read: ReadPrompts,
    logits: Tensor,
) -> tuple[str, ReadPrompts, Tensor]:
    """Write the continuation of a text that the model prefers token by token.

    Returns:
        the continuation, the conversation with it, and the logits float (token,) of what follows.
    """
    length = len(processor.ids_behind_image(text))
    open_choices = {choice: processor.ids_behind_image(text + choice)[length:] for choice in choices}
    place = 0
    while True:
        allowed = sorted({ids[place] for ids in open_choices.values()})
        token = allowed[int(logits[allowed].argmax())]
        open_choices = {choice: ids for choice, ids in open_choices.items() if ids[place] == token}
        place += 1
        embedded = model.language.decoder.embed_tokens(torch.tensor([token], device=model.device))
        read = model.language.read_on(read, embedded)
        logits = model.language.next_token_logits(read.state)[0]
        for choice, ids in open_choices.items():
            # No choice begins another: each ends with a mark that is nowhere else in it.
            if len(ids) == place:
                return choice, read, logits
