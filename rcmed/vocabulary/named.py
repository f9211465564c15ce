"""Targets by the names that people give: the table's codes where a name means one target, else a private code."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from rcmed.codes import Code
from rcmed.errors import InputError
from rcmed.modality import Modality
from rcmed.vocabulary.matching import resolve_targets
from rcmed.vocabulary.table import Target

LONGEST_NAME = 64
"""Characters of a name: it becomes a code meaning and a segment label (LO, PS3.5 6.2)."""
_ANATOMICAL_STRUCTURE = Code("91723000", "SCT", "Anatomical Structure")
_COLOUR = (0, 200, 255)


def private_target(name: str, modalities: Sequence[Modality]) -> Target:
    """A target that the table does not have, with a private code (99RCMED) made of its name; case does not matter.

    Raises:
        InputError: the name is blank or longer than 64 characters.
    """
    if not name.strip() or len(name) > LONGEST_NAME:
        raise InputError(f"the name of a target has 1 to {LONGEST_NAME} characters, not {len(name.strip())}")
    value = "EX-" + hashlib.sha256(name.lower().encode()).hexdigest()[:12].upper()
    return Target(name, (), _ANATOMICAL_STRUCTURE, Code(value, "99RCMED", name), None, None, _COLOUR, tuple(modalities))


def sole_target(text: str, modality: Modality | None) -> Target | None:
    """The target that a text means as a whole; None where it means none, several, or something beside it."""
    resolution = resolve_targets(text, modality)
    return resolution.targets[0] if len(resolution.targets) == 1 and not resolution.unresolved else None


def target_called(name: str, modality: Modality) -> Target:
    """The target that a person's free-text name of a structure means, under that very name.

    The table's codes are taken only where the whole name means exactly one target ("Liver", "left renal organ");
    any other name stands for a structure of its own, with a private code: a wrong code would be worse than none.

    Raises:
        InputError: the name is blank or longer than 64 characters.
    """
    name = " ".join(name.split())
    target = sole_target(name, modality)
    if target is not None and len(name) <= LONGEST_NAME:
        return replace(target, name=name)
    return private_target(name, [modality])
