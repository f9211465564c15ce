"""What the values of a submitted label map are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rcmed.errors import InputError
from rcmed.vocabulary.named import LONGEST_NAME


def names_of_values(values: Sequence[int], info: Mapping[str, Any]) -> dict[int, str]:
    """The name of each value.

    3D Slicer numbers the values of a label map 1, 2, ... in the order of its segments, and lists their names in that
    order: value k has the k-th name, also where other values are absent from the map. The `idx` beside a name counts
    segments that were not sent too (scribbles); it counts only where a value is beyond the list.

    Args:
        values: that occur in the map, without 0.
        info: as sent with the label: for results of our tasks `params` with `label_names`, names to values, which
            are believed first; `label_info` with `name` and `idx` (Slicer's submit).
    Returns:
        name by value; "Segment k" where no names were sent at all.
    Raises:
        InputError: a value has no name, or a name is blank, too long or no text; names the key.
    """
    by_tasks = _names_by_tasks(info)
    if by_tasks:
        by_value = {
            _whole(value, "params.label_names"): _name(name, "params.label_names") for name, value in by_tasks.items()
        }
        return {value: _required(by_value.get(value), value, "params.label_names") for value in values}
    listed = info.get("label_info")
    if listed:
        return _listed_names(values, listed)
    return {value: f"Segment {value}" for value in values}


def names_in(info: Mapping[str, Any]) -> list[str]:
    """All names that were sent with a label, whether or not a value of theirs occurs; those that are none are left out.

    Args:
        info: as sent with the label, see `names_of_values`.
    """
    by_tasks, listed = _names_by_tasks(info), info.get("label_info")
    if by_tasks:
        names: list[object] = list(by_tasks)
    else:
        names = [item.get("name") for item in listed if isinstance(item, Mapping)] if isinstance(listed, list) else []
    return [" ".join(name.split()) for name in names if isinstance(name, str) and name.strip()]


def _names_by_tasks(info: Mapping[str, Any]) -> Mapping[str, Any]:
    """Names to values as our own tasks tell them; empty where none did."""
    params = info.get("params")
    names = params.get("label_names") if isinstance(params, Mapping) else None
    return names if isinstance(names, Mapping) else {}


def _listed_names(values: Sequence[int], listed: Any) -> dict[int, str]:
    if not isinstance(listed, list) or not all(isinstance(item, Mapping) for item in listed):
        raise InputError("label_info: must be a list of objects with `name` and `idx`")
    names = [_name(item.get("name"), "label_info") for item in listed]
    if not values or max(values) <= len(names):
        return {value: names[value - 1] for value in values}
    by_index = {
        _whole(item["idx"], "label_info.idx"): name
        for item, name in zip(listed, names, strict=True)
        if item.get("idx") is not None
    }
    return {value: _required(by_index.get(value), value, "label_info") for value in values}


def _name(name: object, key: str) -> str:
    if not isinstance(name, str) or not " ".join(name.split()):
        raise InputError(f"{key}: a segment has no name; name it in the viewer and submit again")
    name = " ".join(name.split())
    if len(name) > LONGEST_NAME:
        raise InputError(f"{key}: a segment's name has {len(name)} characters; at most {LONGEST_NAME} can be kept")
    return name


def _whole(value: object, key: str) -> int:
    try:
        return int(value)  # type: ignore[call-overload, no-any-return]
    except (TypeError, ValueError):
        raise InputError(f"{key}: a value must be a whole number, not {type(value).__name__}") from None


def _required(name: str | None, value: int, key: str) -> str:
    if name is None:
        raise InputError(f"{key}: the label map holds value {value}, for which no name was sent; submit it again")
    return name
