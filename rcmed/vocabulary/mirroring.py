"""What a name becomes where left and right of an image are exchanged."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

from rcmed.vocabulary.table import Target, load_paired_words, load_targets
from rcmed.vocabulary.words import tokenize

_SIDES = {"left": "right", "right": "left"}
# Labels are also written `kidney_left`.
_SIDE = re.compile(r"(?<![^\W_])(left|right)(?![^\W_])", re.IGNORECASE)


def has_side(name: str) -> bool:
    """Whether a name tells left from right, of a paired organ or not."""
    return _SIDE.search(name) is not None


def mirrored_name(name: str) -> str:
    """The name of what a mirrored image shows in the place of a target: "left kidney" becomes "right kidney".

    Only paired organs have a counterpart. A left ventricle stays one: nothing in a mirrored heart has the right
    ventricle's shape. So a name changes where the table's entry has a mirror or, for names outside the table, where a
    word of paired organs stands in it.
    """
    words = " ".join(token.word for token in tokenize(name))
    target = _by_term().get(words)
    if target is None:
        paired, unpaired = load_paired_words()
        is_paired = _holds(words, paired) and not _holds(words, unpaired)
    elif words == target.name and name == target.name:
        return target.mirror or name
    else:
        is_paired = target.mirror is not None
    return _SIDE.sub(_other_side, name) if is_paired else name


def _holds(words: str, phrases: tuple[str, ...]) -> bool:
    return any(f" {phrase} " in f" {words} " for phrase in phrases)


def _other_side(side: re.Match[str]) -> str:
    written = side.group()
    other = _SIDES[written.lower()]
    if written.isupper():
        return other.upper()
    return other.capitalize() if written[0].isupper() else other


@cache
def _by_term() -> Mapping[str, Target]:
    """Targets by their names and synonyms, as they are compared."""
    return {
        " ".join(token.word for token in tokenize(term)): target
        for target in load_targets()
        for term in (target.name, *target.synonyms)
    }
