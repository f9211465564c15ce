"""Attributes of a source as a result may hold them: of their value representation, sequences whole or not there."""

from __future__ import annotations

import warnings
from typing import Any

from pydicom.config import disable_value_validation
from pydicom.datadict import dictionary_VM, dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag

from dicom_bridge.results.sources.copied import CHOICES, CODE, CODE_ATTRIBUTES, EMPTY_IN_ITEMS, REQUIRED_IN_ITEMS
from dicom_bridge.value_representation import of_representation

_DEEPEST = 8
# What identifies something is not cut where it is too long: it would become another's.
_IDENTIFYING = ("ID", "UID", "Number", "Identifier", "CodeValue", "Designator", "Version")


def copied_element(dataset: Dataset, keyword: str) -> tuple[DataElement | None, bool]:
    """An attribute of a source, in the form that the standard wants.

    Args:
        dataset: as it was read; stays as it is.
        keyword: of a standard attribute.
    Returns:
        the element, None where nothing valid is there; and whether something that was there is lost.
    """
    tag = tag_for_keyword(keyword)
    if tag is None or tag not in dataset:
        return None, False
    return _element(dataset, BaseTag(tag), 0)


def _element(dataset: Dataset, tag: BaseTag, depth: int) -> tuple[DataElement | None, bool]:
    vr, keyword = dictionary_VR(tag), keyword_for_tag(tag)
    try:
        with warnings.catch_warnings(), disable_value_validation():
            warnings.simplefilter("ignore")
            value = dataset[tag].value
    except Exception:  # a damaged value raises nearly anything on access
        return None, True
    if value is None or (isinstance(value, (str, bytes, MultiValue, Sequence)) and not len(value)):
        return None, False
    if vr == "SQ":
        return _sequence(tag, keyword, value, depth)
    if isinstance(value, Sequence):
        return None, True
    found = list(value) if isinstance(value, (list, tuple, MultiValue)) else [value]
    whole = _choices(keyword, [of_representation(vr, one, not keyword.endswith(_IDENTIFYING)) for one in found])
    kept = [one for one in whole if one is not None]
    least, most = _multiplicity(tag)
    if not least <= len(kept) or (most is not None and len(found) > most):
        return None, any(str(one).strip(" \0") for one in found)
    element = DataElement(tag, vr, kept if len(kept) > 1 else kept[0])
    return element, len(kept) < len(found)


def _choices(keyword: str, values: list[Any]) -> list[Any]:
    choices = CHOICES.get(keyword)
    return values if choices is None else [value if str(value) in choices else None for value in values]


def _multiplicity(tag: BaseTag) -> tuple[int, int | None]:
    """The least and the most values of an attribute (PS3.6); None: as many as one likes."""
    least, _, most = dictionary_VM(tag).partition("-")
    return int(least), int(most) if most.isdecimal() else int(least) if not most else None


def _sequence(tag: BaseTag, keyword: str, value: Any, depth: int) -> tuple[DataElement | None, bool]:
    if not isinstance(value, Sequence) or depth >= _DEEPEST:
        return None, True
    items, is_lost = [], False
    for item in value:
        copy, is_less = _item(item, keyword, depth + 1)
        if copy is not None:
            items.append(copy)
        is_lost |= is_less
    return (DataElement(tag, "SQ", Sequence(items)) if items else None), is_lost


def _item(item: Dataset, owner: str, depth: int) -> tuple[Dataset | None, bool]:
    """A copy of an item; None where it lacks what it must have. Private elements stay behind."""
    is_code = owner.endswith("CodeSequence")
    copy, is_lost = Dataset(), False
    for tag in sorted(item.keys()):
        keyword = keyword_for_tag(tag)
        if not keyword or tag.is_private or (is_code and keyword not in CODE_ATTRIBUTES):
            continue
        element, is_less = _element(item, tag, depth)
        if element is not None:
            copy.add(element)
        is_lost |= is_less
    required = CODE if is_code else REQUIRED_IN_ITEMS.get(owner, ())
    if any(not any(keyword in copy for keyword in choice) for choice in required) or not len(copy):
        return None, True
    if is_code and "URNCodeValue" not in copy and "CodingSchemeDesignator" not in copy:
        return None, True
    if "UniversalEntityID" in copy and "UniversalEntityIDType" not in copy:
        return None, True
    for keyword in EMPTY_IN_ITEMS.get(owner, ()):
        if keyword not in copy:
            setattr(copy, keyword, [])
    return copy, is_lost
