"""The index of all terms: the longest term at a place, the nearest term to a misspelling."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from rapidfuzz import fuzz, process
from rapidfuzz.distance import OSA

from rcmed.image import Modality
from rcmed.vocabulary.table import Target, load_generic_words, load_groups, load_targets
from rcmed.vocabulary.words import (
    BODY_REGIONS,
    NEGATIONS,
    PREPOSITIONS,
    SEPARATORS,
    STOP_WORDS,
    Token,
    tokenize,
)

Words = tuple[str, ...]

ANATOMICAL_STRUCTURE = "91723000"
MOST_SUGGESTIONS = 3
_SHORTEST_CORRECTED_WORD = 5
# Of 100: how alike a term and the words of a prompt must be for the term to be suggested.
_NEAR = 65.0


@cache
def terms() -> Mapping[Words, tuple[Target, ...]]:
    """Every name, synonym and group word, as normalised words."""
    index = {_words(word): targets for word, targets in load_groups().items()}
    for target in load_targets():
        for term in (target.name, *target.synonyms):
            index[_words(term)] = (target,)
    for words in list(index):
        other = ("right", *words[1:])
        if words[0] == "left" and other in index:
            for both in ("both", "bilateral"):
                index.setdefault((both, *words[1:]), index[words] + index[other])
    return index


@cache
def generic_words() -> Mapping[str, tuple[Target, ...]]:
    """Words that need a modality to name a target, normalised."""
    return {_words(word)[0]: targets for word, targets in load_generic_words().items()}


@cache
def _longest_term() -> int:
    return max(len(words) for words in terms())


@cache
def _lexicon() -> frozenset[str]:
    """Words that a misspelling may stand for."""
    return frozenset(word for words in terms() for word in words) | frozenset(generic_words())


def _words(text: str) -> Words:
    return tuple(token.word for token in tokenize(text))


def corrected(token: Token) -> Token:
    """Mend one wrong, missing, surplus or swapped letter, but not the first, where only one known word is that near."""
    word = token.word
    known = word in _lexicon() or word in STOP_WORDS | SEPARATORS | NEGATIONS | PREPOSITIONS | BODY_REGIONS
    if known or len(word) < _SHORTEST_CORRECTED_WORD:
        return token
    near = [
        other
        for other in _lexicon()
        if len(other) >= _SHORTEST_CORRECTED_WORD
        and other[0] == word[0]
        and OSA.distance(word, other, score_cutoff=1) == 1
    ]
    return token.respelled(near[0]) if len(near) == 1 else token


def term_at(words: Words, start: int) -> int:
    """Length of the longest term that starts here; 0 where none does."""
    for length in range(min(_longest_term(), len(words) - start), 0, -1):
        if words[start : start + length] in terms():
            return length
    return 0


def tile(words: Words) -> tuple[list[Target], list[str]]:
    """Cover words with terms, longest first; what is neither term nor stop word is the rest."""
    targets: list[Target] = []
    rest: list[str] = []
    index = 0
    while index < len(words):
        length = term_at(words, index)
        if length:
            targets += terms()[words[index : index + length]]
        elif words[index] not in STOP_WORDS:
            rest.append(words[index])
        index += max(length, 1)
    return targets, rest


def content(words: Words) -> Words:
    """Words without stop words, except those inside a term."""
    kept: list[str] = []
    index = 0
    while index < len(words):
        length = term_at(words, index)
        if length or words[index] not in STOP_WORDS:
            kept += words[index : index + max(length, 1)]
        index += max(length, 1)
    return tuple(kept)


def is_inside_term(words: Words, place: int) -> bool:
    """Whether the word at this place belongs to a term."""
    index = 0
    while index <= place:
        length = term_at(words, index)
        if index <= place < index + length:
            return True
        index += max(length, 1)
    return False


def names_lesion(words: Words) -> bool:
    """Whether a term among these words is more than a normal organ."""
    targets, _ = tile(words)
    return any(target.category.value != ANATOMICAL_STRUCTURE for target in targets)


def near_names(words: str, modality: Modality | None) -> list[str]:
    """Names near to some words: those of the modality first, the likest first."""
    choices = {term: " ".join(term) for term in terms()}
    hits = process.extract(words, choices, scorer=fuzz.token_set_ratio, score_cutoff=_NEAR, limit=40)
    found: dict[str, tuple[bool, float]] = {}
    for _, score, key in hits:
        for target in terms()[key]:
            elsewhere = modality is not None and modality not in target.modalities
            found[target.name] = min(found.get(target.name, (True, 0.0)), (elsewhere, -score))
    return sorted(found, key=lambda name: found[name])[:MOST_SUGGESTIONS]
