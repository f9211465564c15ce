"""What a text asks for: targets, and words that name none, with reasons."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rcmed.modality import Modality
from rcmed.model.instruction import UNNAMED
from rcmed.vocabulary import Target, resolve_targets
from rcmed.vocabulary.named import private_target

# What a user points at and does not name.
POINTED_AT = private_target("region pointed at", tuple(Modality))


def words_for_model(target: Target) -> str:
    """What the weights are asked for."""
    return UNNAMED if target == POINTED_AT else target.name


@dataclass(frozen=True)
class Wanted:
    """One thing that is asked for.

    Attributes:
        prompt: the words; "" where everything is asked for.
        target: None where the words name none that can be looked for, and `reason` says why.
        reason: one line.
    """

    prompt: str
    target: Target | None
    reason: str | None = None


def split_prompts(prompts: str | Sequence[str]) -> list[str]:
    """The prompts of texts: `;` and line ends part them; blank ones are left out."""
    texts = [prompts] if isinstance(prompts, str) else list(prompts)
    return [part.strip() for text in texts for part in re.split(r"[;\n]", text) if part.strip()]


def read_prompts(
    prompts: Sequence[str],
    modality: Modality,
    learned: Mapping[str, Target],
    own: Mapping[str, Target],
    unknown_because: Callable[[Target], str | None],
) -> list[Wanted]:
    """What prompts ask for, in their order.

    Args:
        prompts: free text each.
        modality: of the image.
        learned: targets of which examples were given, by name; what the weights know of them does not matter.
        own: targets of the weights that the vocabulary does not have, by name.
        unknown_because: why a target can't be looked for; None where it can.
    """
    wanted: list[Wanted] = []
    for prompt in prompts:
        name = " ".join(prompt.lower().split())
        if name in learned:
            wanted.append(Wanted(prompt, learned[name]))
            continue
        if name in own:
            named: tuple[Target, ...] = (own[name],)
            unresolved: tuple[str, ...] = ()
        else:
            resolution = resolve_targets(prompt, modality)
            named, unresolved = resolution.targets, resolution.unresolved
        for target in named:
            unknown = unknown_because(target)
            wanted.append(Wanted(prompt, target if unknown is None else None, unknown))
        wanted += [Wanted(prompt, None, reason) for reason in unresolved]
    return wanted
