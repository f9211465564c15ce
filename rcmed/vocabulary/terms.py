"""The index of all terms: the longest term at a place, the nearest term to a misspelling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise

from rapidfuzz import fuzz, process
from rapidfuzz.distance import OSA

from rcmed.modality import Modality
from rcmed.vocabulary.roots import bag, is_rooted, root
from rcmed.vocabulary.table import Target, load_generic_words, load_groups, load_targets
from rcmed.vocabulary.words import (
    BODY_REGIONS,
    NEGATIONS,
    NOT_MISSPELLED,
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
def _bags() -> Mapping[Words, tuple[Target, ...]]:
    """Terms of several words by their `bag`; left out where two terms that differ in meaning have the same."""
    index: dict[Words, tuple[Target, ...]] = {}
    doubtful = set()
    for words, targets in terms().items():
        key = bag(words)
        if len(key) > 1 and index.setdefault(key, targets) != targets:
            doubtful.add(key)
    return {key: targets for key, targets in index.items() if key not in doubtful}


def reworded(words: Words) -> tuple[Target, ...]:
    """Targets of the term that has the same words in another order or form ("tumor hepatis"); empty where none has."""
    return _bags().get(bag(content(words)), ())


@cache
def generic_words() -> Mapping[Words, tuple[Target, ...]]:
    """Words that need a modality to name a target, normalised."""
    return {_words(word): targets for word, targets in load_generic_words().items()}


def seen_elsewhere(targets: Sequence[Target], modality: Modality | None) -> tuple[Target, ...]:
    """The target that one name means in another modality ("breast tumor" on a mammogram), where there is one."""
    if modality is None or len(targets) != 1 or modality in targets[0].modalities:
        return tuple(targets)
    also = generic_words().get(_words(targets[0].name), ())
    seen = tuple(target for target in also if modality in target.modalities)
    return seen if len(seen) == 1 else tuple(targets)


@cache
def _longest_term() -> int:
    return max(len(words) for words in terms())


@cache
def _lexicon() -> frozenset[str]:
    """Words that a misspelling may stand for."""
    return frozenset(word for words in terms() for word in words) | {
        word for words in generic_words() for word in words
    }


def _words(text: str) -> Words:
    return tuple(token.word for token in tokenize(text))


def corrected(tokens: Sequence[Token]) -> list[Token]:
    """Mend one wrong, missing, surplus or swapped letter of a word, but not the first, where the meaning is clear.

    It is where only one known word is that near (forms of the same word count as one), or only one of those that are
    makes a term with the word before or after it.
    """
    mended: list[Token] = []
    for place, token in enumerate(tokens):
        near = _near_words(token)
        if len({root(word) for word in near}) > 1:
            before = mended[-1].word if mended else ""
            after = tokens[place + 1].word if place + 1 < len(tokens) else ""
            near = [word for word in near if {(before, word), (word, after)} & _neighbours()]
        if len({root(word) for word in near}) == 1:
            noun = root(near[0])
            token = token.respelled(noun if len(near) > 1 and noun in _lexicon() else near[0])
        mended.append(token)
    return mended


def _near_words(token: Token) -> list[str]:
    known = STOP_WORDS | SEPARATORS | NEGATIONS | PREPOSITIONS | BODY_REGIONS | NOT_MISSPELLED
    if token.word in _lexicon() or is_rooted(token.word) or token.word in known:
        return []
    # The last letter may be the wrong one, and no plural.
    for word in dict.fromkeys((token.spelled, token.word)):
        near = sorted(other for other in _lexicon() if _is_near(word, other))
        if near:
            return near
    return []


@cache
def _neighbours() -> frozenset[tuple[str, str]]:
    """Words that stand side by side in a term."""
    return frozenset(pair for words in terms() for pair in pairwise(words))


def _is_near(word: str, other: str) -> bool:
    if min(len(word), len(other)) < _SHORTEST_CORRECTED_WORD or word[0] != other[0]:
        return False
    return bool(OSA.distance(word, other, score_cutoff=1) == 1)


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
