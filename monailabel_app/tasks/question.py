"""What a viewer asks: its `params` read as one question.

Precedence is `prompt`, then `preset`, `label_prompt`, `label`; what comes later is not looked at where something
earlier is given, so that a `label_prompt` or points that OHIF kept from an earlier run do not leak into this one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from monailabel_app.tasks.labels import AdvertisedLabels
from rcmed.errors import InputError
from rcmed.modality import Modality

LONGEST_PROMPT = 4000
MOST_POINTS = 1000
AUTOMATIC = "auto"

# What 3D Slicer calls a segment that nobody has named.
_NAME_OF_SLICERS = re.compile(r"Segment(_[0-9]+)?")

FilePoint = tuple[int, int, int]
"""Voxel (i, j, k) along the file's first, second and third axis, as both viewers count."""


class Asked(StrEnum):
    """What of the request named the targets."""

    PROMPT = "prompt"
    CLASSES = "label_prompt"
    LABEL = "label"
    NOTHING = "nothing"


@dataclass(frozen=True)
class Pointing:
    """Where a user points at.

    Attributes:
        inside, outside: clicks on the target, and beside it.
        box: ((first, last) along each file axis), both inclusive.
    """

    inside: tuple[FilePoint, ...] = ()
    outside: tuple[FilePoint, ...] = ()
    box: tuple[tuple[int, int], tuple[int, int], tuple[int, int]] | None = None

    def __bool__(self) -> bool:
        return bool(self.inside or self.outside or self.box)


@dataclass(frozen=True)
class Question:
    """One request of a viewer.

    Attributes:
        asked: what named the targets.
        words: free text or names of targets; empty asks for what is there.
        slots: values of prompt slots that the user ticked, in order (OHIF).
        for_ohif: the mask's values must be advertised ones; else they are 1..N.
        modality: where the user says it.
        pointing: clicks and box, where the task takes them.
    """

    asked: Asked
    words: tuple[str, ...] = ()
    slots: tuple[int, ...] = ()
    for_ohif: bool = False
    modality: Modality | None = None
    pointing: Pointing = field(default_factory=Pointing)


def read_question(params: Mapping[str, Any], labels: AdvertisedLabels, takes_points: bool) -> Question:
    """Read the parameters of an infer request.

    Args:
        params: as the viewer sent them.
        labels: what `/info/` advertises; `label_prompt` holds values of it.
        takes_points: whether clicks and boxes are looked at.
    Raises:
        InputError: something is of the wrong kind, or slots were ticked but nothing was typed.
    """
    for_ohif = "restore_label_idx" in params
    prompt = _text(params, "prompt") or _text(params, "preset")
    values = _values(params, labels)
    slots = tuple(value for value in values if labels.is_slot(value))
    classes = tuple(name for value in values if not labels.is_slot(value) and (name := labels.name_of(value)))
    names = _names(params.get("label"))
    words: tuple[str, ...] = ()
    if prompt:
        asked, words = Asked.PROMPT, (prompt,)
    elif classes:
        asked, words = Asked.CLASSES, classes
    elif slots:
        raise InputError(
            f"`{labels.name_of(slots[0])}` is ticked, but no prompt was typed: type it in Options, `prompt`"
        )
    elif names:
        asked, words = Asked.LABEL, names
    else:
        asked = Asked.NOTHING
    # Point prompts of OHIF name exactly one class; more are a run by classes, and the points an earlier run's.
    pointing = _pointing(params) if takes_points and len(values) <= 1 else Pointing()
    return Question(asked, words, slots, for_ohif, _modality(params), pointing)


def _text(params: Mapping[str, Any], key: str) -> str:
    value = params.get(key)
    if value is None:
        return ""
    if isinstance(value, list | tuple) and all(isinstance(part, str) for part in value):
        value = "; ".join(value)
    if not isinstance(value, str):
        raise InputError(f"params: `{key}` must be text, not {type(value).__name__}")
    if len(value) > LONGEST_PROMPT:
        raise InputError(f"params: `{key}` has {len(value)} characters; at most {LONGEST_PROMPT} are read")
    return value.strip()


def _names(value: object) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if names is None:
        return ()
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise InputError("params: `label` must be a segment's name or a list of names")
    return tuple(name.strip() for name in names if name.strip() and not _NAME_OF_SLICERS.fullmatch(name.strip()))


def _values(params: Mapping[str, Any], labels: AdvertisedLabels) -> tuple[int, ...]:
    given = params.get("label_prompt")
    if given is None:
        return ()
    if not isinstance(given, list | tuple) or not all(type(value) is int for value in given):
        raise InputError("params: `label_prompt` must be a list of label values")
    if _text(params, "prompt"):
        # Kept from an earlier run, perhaps of another server: only ticked slots say something about this one.
        return tuple(dict.fromkeys(value for value in given if labels.name_of(value)))
    for value in given:
        if labels.name_of(value) is None:
            raise InputError(f"params: `label_prompt` {value} is no label of this server; connect the viewer again")
    return tuple(dict.fromkeys(given))


def _modality(params: Mapping[str, Any]) -> Modality | None:
    value = _text(params, "modality").lower()
    if value in ("", AUTOMATIC):
        return None
    try:
        return Modality(value)
    except ValueError:
        raise InputError(f"params: `modality` must be one of {AUTOMATIC}, {', '.join(Modality)}") from None


def _pointing(params: Mapping[str, Any]) -> Pointing:
    if params.get("points"):
        points = _points(params, "points")
        kinds = params.get("point_labels")
        if (
            not isinstance(kinds, list | tuple)
            or len(kinds) != len(points)
            or any(kind not in (0, 1) for kind in kinds)
        ):
            raise InputError("params: `point_labels` must hold 1 (on the target) or 0 (beside it) for each of `points`")
        inside = tuple(point for point, kind in zip(points, kinds, strict=True) if kind == 1)
        outside = tuple(point for point, kind in zip(points, kinds, strict=True) if kind == 0)
    else:
        inside, outside = _points(params, "foreground"), _points(params, "background")
    return Pointing(inside, outside, _box(params.get("roi")))


def _points(params: Mapping[str, Any], key: str) -> tuple[FilePoint, ...]:
    given = params.get(key)
    if not given:
        return ()
    if not isinstance(given, list | tuple) or len(given) > MOST_POINTS:
        raise InputError(f"params: `{key}` must be a list of at most {MOST_POINTS} points")
    points = []
    for point in given:
        if not isinstance(point, list | tuple) or len(point) != 3 or not all(_is_number(number) for number in point):
            raise InputError(f"params: each of `{key}` must be three voxel indices (i, j, k)")
        points.append((round(point[0]), round(point[1]), round(point[2])))
    return tuple(points)


def _box(given: object) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]] | None:
    if not given:
        return None
    if not isinstance(given, list | tuple) or len(given) != 6 or not all(_is_number(number) for number in given):
        raise InputError("params: `roi` must be six voxel indices (first and last along each axis)")
    pairs = [sorted((round(given[2 * axis]), round(given[2 * axis + 1]))) for axis in range(3)]
    first, second, third = ((low, high) for low, high in pairs)
    return first, second, third


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
