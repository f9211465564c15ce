"""The encoded values of a few elements of a data set, found by following lengths alone.

pydicom's parser asks for much more of each element that it passes, which is most of what a look at a header costs. What
is not plain is left to it: an undefined length (PS3.5 7.5), a value representation that is not in the standard, an end
without pixels.
"""

from __future__ import annotations

from struct import Struct

from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag
from pydicom.valuerep import EXPLICIT_VR_LENGTH_16, EXPLICIT_VR_LENGTH_32

_UNDEFINED = 0xFFFFFFFF
# PS3.5 7.1.2 and 7.1.3
_EXPLICIT_16, _EXPLICIT_32, _IMPLICIT = Struct("<HH2sH"), Struct("<HH2s2xL"), Struct("<HHL")
_LENGTH_16 = {name.encode("ascii"): str(name) for name in EXPLICIT_VR_LENGTH_16}
_LENGTH_32 = {name.encode("ascii"): str(name) for name in EXPLICIT_VR_LENGTH_32}


def skim(content: bytes, is_implicit: bool, wanted: frozenset[int], until: int) -> dict[int, RawDataElement] | None:
    """Find elements of a little endian data set that are not empty; those of items are not looked at.

    Args:
        content: the data set, or its beginning.
        is_implicit: whether value representations are left out.
        wanted: tags of the elements.
        until: the tag at which, or at the first one after it, the look ends.
    Returns:
        by tag; None: it holds something that is not plain, or does not reach `until`.
    """
    walk = _implicit if is_implicit else _explicit
    return walk(content, wanted, until)


def _explicit(content: bytes, wanted: frozenset[int], until: int) -> dict[int, RawDataElement] | None:
    found: dict[int, RawDataElement] = {}
    offset, last = 0, len(content) - _EXPLICIT_32.size
    while offset <= last:
        group, element, vr, length = _EXPLICIT_16.unpack_from(content, offset)
        tag = group << 16 | element
        if tag >= until:
            return found
        if vr in _LENGTH_16:
            offset += 8
            name = _LENGTH_16[vr]
        elif vr in _LENGTH_32:
            length = _EXPLICIT_32.unpack_from(content, offset)[3]
            if length == _UNDEFINED:
                return None
            offset += 12
            name = _LENGTH_32[vr]
        else:
            return None
        if length and tag in wanted:
            value = content[offset : offset + length]
            found[tag] = RawDataElement(BaseTag(tag), name, length, value, offset, False, True)
        offset += length
    return None


def _implicit(content: bytes, wanted: frozenset[int], until: int) -> dict[int, RawDataElement] | None:
    found: dict[int, RawDataElement] = {}
    offset, last = 0, len(content) - _IMPLICIT.size
    while offset <= last:
        group, element, length = _IMPLICIT.unpack_from(content, offset)
        tag = group << 16 | element
        if tag >= until:
            return found
        if length == _UNDEFINED:
            return None
        offset += 8
        if length and tag in wanted:
            value = content[offset : offset + length]
            found[tag] = RawDataElement(BaseTag(tag), None, length, value, offset, True, True)
        offset += length
    return None
