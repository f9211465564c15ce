"""Free text to targets: what is clear is resolved, what is not is said, nothing is guessed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rcmed.modality import Modality
from rcmed.vocabulary.table import Target
from rcmed.vocabulary.terms import (
    ANATOMICAL_STRUCTURE,
    MOST_SUGGESTIONS,
    Words,
    content,
    corrected,
    generic_words,
    is_inside_term,
    names_lesion,
    near_names,
    reworded,
    seen_elsewhere,
    term_at,
    terms,
    tile,
)
from rcmed.vocabulary.words import (
    BODY_REGIONS,
    CLAUSE_ENDS,
    MODALITY_WORDS,
    NEGATIONS,
    PREPOSITIONS,
    SEPARATORS,
    SIDES,
    STOP_WORDS,
    VERBS,
    Token,
    tokenize,
)


@dataclass(frozen=True)
class Resolution:
    """What a text asks for.

    Attributes:
        targets: each once, in the order of the text.
        phrases: the words of the text that named each target.
        unresolved: a line for each part of the text that names no target: its words, why, and what is near.
    """

    targets: tuple[Target, ...] = ()
    phrases: tuple[str, ...] = ()
    unresolved: tuple[str, ...] = ()


@dataclass
class _Chunk:
    """The tokens between two separators, and what became of them."""

    tokens: list[Token]
    separator: str = ""
    words: Words = ()
    targets: tuple[Target, ...] = ()
    negated: bool = False
    candidates: tuple[Target, ...] = field(default=())


def resolve_targets(text: str, modality: Modality | None = None) -> Resolution:
    """Resolve free text such as "outline the liver and both kidneys" to targets.

    The longest name wins ("kidney tumor" is never "kidney"), and a part of the text resolves only if every word of it
    is understood. Case, punctuation, plural, British spelling, the order of a term's words, their Latin and everyday
    forms and one wrong letter in a word do not matter, the last only where it is clear what was meant.
    Several targets are parted by commas, semicolons, line ends, "and", "or".

    Args:
        text: the prompt. Blank text gives an empty resolution.
        modality: decides words such as "tumor" where exactly one target of this modality is meant by them.
    Returns:
        targets with their phrases, and the rest of the text with reasons; a negation ("no liver") is such a rest.
    """
    tokens = corrected(tokenize(text))
    targets: dict[str, tuple[Target, str]] = {}
    unresolved: list[str] = []
    chunks = [chunk for clause in _clauses(tokens) for chunk in _read_clause(clause, modality)]
    for chunk in chunks:
        phrase = text[chunk.tokens[0].start : chunk.tokens[-1].end]
        if chunk.targets:
            for target in seen_elsewhere(chunk.targets, modality):
                targets.setdefault(target.name, (target, phrase))
        elif chunk.negated:
            unresolved.append(f"`{phrase}` is negated: name only what is to be found")
        elif chunk.candidates:
            unresolved.append(f"`{phrase}` is ambiguous: say {_any_of(_names(chunk.candidates))}")
        else:
            unresolved.append(_unknown(phrase, chunk, modality))
    if text.strip() and not targets and not unresolved:
        unresolved.append(f"`{' '.join(text.split())}` names no target: name one, or leave the prompt empty for all")
    return Resolution(
        targets=tuple(target for target, _ in targets.values()),
        phrases=tuple(phrase for _, phrase in targets.values()),
        unresolved=tuple(unresolved),
    )


def _clauses(tokens: Sequence[Token]) -> list[list[Token]]:
    clauses: list[list[Token]] = [[]]
    for token in tokens:
        if token.word in CLAUSE_ENDS:
            clauses.append([])
        else:
            clauses[-1].append(token)
    return [clause for clause in clauses if clause]


def _read_clause(clause: Sequence[Token], modality: Modality | None) -> list[_Chunk]:
    chunks = _split(clause)
    _mark_negations(chunks)
    for chunk in chunks:
        if not chunk.negated:
            _read_chunk(chunk, modality)
    _share_words(chunks)
    return [chunk for chunk in chunks if chunk.words or chunk.targets or chunk.negated]


def _split(clause: Sequence[Token]) -> list[_Chunk]:
    """Part a clause at its separators, but not inside a term such as "portal and splenic vein"."""
    words = tuple(token.word for token in clause)
    chunks = [_Chunk([])]
    index = 0
    while index < len(clause):
        length = term_at(words, index)
        if length:
            chunks[-1].tokens += clause[index : index + length]
        elif words[index] in SEPARATORS:
            # "all but the liver" leaves the liver out; any other "but" begins anew.
            if words[index] == "but" and index and words[index - 1] in ("all", "everything", "anything"):
                chunks.append(_Chunk([clause[index].respelled("except")], "but"))
            else:
                chunks.append(_Chunk([clause[index]] if words[index] == "nor" else [], words[index]))
        else:
            chunks[-1].tokens.append(clause[index])
        index += max(length, 1)
    # Of a run of separators (", and not") the first that is not a comma counts.
    merged: list[_Chunk] = []
    separator = ""
    for chunk in chunks:
        separator = chunk.separator if separator in ("", ",") else separator
        if chunk.tokens:
            chunk.separator, separator = separator, ""
            merged.append(chunk)
    return merged


def _mark_negations(chunks: Sequence[_Chunk]) -> None:
    """A negation reaches over "and" and "or", and over commas where an "or" follows ("no liver, spleen or colon")."""
    negated = False
    for index, chunk in enumerate(chunks):
        words = tuple(token.word for token in chunk.tokens)
        list_goes_on = any(later.separator in ("or", "nor") for later in chunks[index:])
        if chunk.separator == "but" or VERBS & set(words) or (chunk.separator == "," and not list_goes_on):
            negated = False
        position = 0
        while position < len(words):
            length = term_at(words, position)
            negated = negated or (not length and words[position] in NEGATIONS)
            position += max(length, 1)
        chunk.negated = negated


def _read_chunk(chunk: _Chunk, modality: Modality | None) -> None:
    tokens = list(chunk.tokens)
    all_words = tuple(token.word for token in tokens)
    targets, rest = tile(all_words)
    # "tumor of the kidney", "tumor in this brain MRI", "liver in this CT": from the last preposition to the first.
    while not targets or rest:
        words = tuple(token.word for token in tokens)
        places = [i for i, word in enumerate(words) if word in PREPOSITIONS and not is_inside_term(words, i)]
        if not places:
            break
        what, where = content(words[: places[-1]]), content(words[places[-1] + 1 :])
        has_modality = bool(MODALITY_WORDS & set(words[places[-1] + 1 :]))
        for joined in (where + what, what + where):
            if what and where and joined in terms():
                chunk.words, chunk.targets = joined, terms()[joined]
                _trim(chunk)
                return
        if not what:
            tokens = tokens[places[-1] + 1 :]
        elif not where or set(where) <= BODY_REGIONS or (has_modality and not names_lesion(where)):
            tokens = tokens[: places[-1]]
        else:
            break
        targets, rest = tile(tuple(token.word for token in tokens))
    chunk.words = content(tuple(token.word for token in tokens)) if tokens else ()
    _trim(chunk)
    if not rest:
        structures = all(target.category.value == ANATOMICAL_STRUCTURE for target in targets)
        named = {target.name for target in targets}
        # Terms side by side: a list of organs ("liver spleen"), but not "gallbladder polyp".
        if structures or len(named) == 1 or chunk.words in terms():
            chunk.targets = tuple(targets)
    if not chunk.targets:
        chunk.targets = reworded(all_words)
    if not chunk.targets and chunk.words in generic_words():
        candidates = generic_words()[chunk.words]
        seen = tuple(target for target in candidates if modality is None or modality in target.modalities)
        chunk.targets, chunk.candidates = (seen, ()) if len(seen) == 1 else ((), seen)


def _trim(chunk: _Chunk) -> None:
    """Cut words that name nothing from both ends, for the phrase."""
    empty = (STOP_WORDS | PREPOSITIONS) - set(chunk.words)
    full = [index for index, token in enumerate(chunk.tokens) if token.word not in empty]
    if full:
        chunk.tokens = chunk.tokens[full[0] : full[-1] + 1]


def _share_words(chunks: Sequence[_Chunk]) -> None:
    """Lend words to a neighbour: "left and right kidney", "hard and soft exudates", "left kidney and right"."""
    for chunk, following in zip(reversed(chunks[:-1]), reversed(chunks[1:]), strict=True):
        # Over a comma only a side is lent a word: "brain, kidney tumor" may well mean the brain.
        near = following.separator != "," or set(chunk.words) <= SIDES
        if near and chunk.words and not chunk.targets and not chunk.negated and following.targets:
            for start in range(1, len(following.words)):
                words = chunk.words + following.words[start:]
                if words in terms():
                    chunk.words, chunk.targets = words, terms()[words]
                    break
    for previous, chunk in zip(chunks, chunks[1:], strict=False):
        if len(chunk.words) == 1 and chunk.words[0] in SIDES and not chunk.targets and previous.targets:
            opposite = previous.words[0] in SIDES
            words = chunk.words + (previous.words[1:] if opposite else previous.words)
            if words in terms():
                chunk.words, chunk.targets = words, terms()[words]
                if not opposite and chunk.separator == ",":
                    # "kidney, left" is one kidney.
                    previous.words, previous.targets = (), ()


def _unknown(phrase: str, chunk: _Chunk, modality: Modality | None) -> str:
    if chunk.words in generic_words() and modality is not None:
        meant = _any_of(_names(generic_words()[chunk.words]))
        return f"`{phrase}` names no target of {modality.value} images: say {meant}"
    near = near_names(" ".join(chunk.words), modality)
    return f"`{phrase}` names no known target" + (f": near are {', '.join(near)}" if near else "")


def _names(targets: Sequence[Target]) -> list[str]:
    names = [target.name for target in targets]
    return names if len(names) <= 2 * MOST_SUGGESTIONS else [*names[: 2 * MOST_SUGGESTIONS], "another"]


def _any_of(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " or " + names[-1]
