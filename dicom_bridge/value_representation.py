"""Values of a file as their value representation wants them (PS3.5 6.2): read tolerantly, never made up.

What is meant beyond doubt is brought into form ("2024-01-02", "7Y", " 3.0"); of anything else nothing is left.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import date
from functools import partial
from typing import Any

from pydicom.valuerep import DSfloat

_FIRST_YEAR = 1582  # dates are of the Gregorian calendar (PS3.5 Table 6.2-1)
_LONGEST_UID, _LONGEST_NAME_GROUP, _NAME_GROUPS, _NAME_COMPONENTS = 64, 64, 3, 5
_LONGEST_TEXT = {"SH": 16, "LO": 64, "ST": 1024, "LT": 10240, "UC": 2**32 - 2, "UT": 2**32 - 2}
_WHOLE_NUMBERS = {
    "US": (0, 2**16 - 1),
    "SS": (-(2**15), 2**15 - 1),
    "UL": (0, 2**32 - 1),
    "SL": (-(2**31), 2**31 - 1),
    "IS": (-(2**31), 2**31 - 1),
}


def of_representation(vr: str, value: Any, may_be_cut: bool = True) -> str | int | float | None:
    """One value of an attribute in a form that its value representation allows.

    Args:
        vr: value representation that the dictionary gives the attribute; not SQ.
        value: as pydicom has it, of any type.
        may_be_cut: whether a text that is too long is cut; what identifies something would become another's.
    Returns:
        the value; None where there is none, or none that is valid.
    """
    if isinstance(value, bytes):
        value = value.decode("ascii", errors="replace")
    text = str(value).strip(" \0\t\r\n") if value is not None else ""
    if not text:
        return None
    if vr in _LONGEST_TEXT:
        return _text(text, _LONGEST_TEXT[vr], vr in ("ST", "LT", "UT"), may_be_cut)
    reader = _READERS.get(vr)
    return reader(text) if reader is not None else None


def as_date(text: str) -> str | None:
    """A day as YYYYMMDD; dots and dashes between its parts are taken, a day that no calendar has is not."""
    digits = re.sub(r"^(\d{4})([.\-/])(\d{2})\2(\d{2})$", r"\1\3\4", text)
    if not re.fullmatch(r"[0-9]{8}", digits):
        return None
    try:
        day = date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        return None
    return digits if day.year >= _FIRST_YEAR else None


def as_time(text: str) -> str | None:
    """A time of day as HH[MM[SS[.FFFFFF]]]; colons are taken, further digits of the fraction are cut."""
    digits = re.sub(r"^(\d{2}):(\d{2})(?::(\d{2}))?", lambda found: "".join(found.groups("")), text)
    found = re.fullmatch(r"([01][0-9]|2[0-3])(?:([0-5][0-9])(?:([0-5][0-9])(?:\.([0-9]+))?)?)?", digits)
    if found is None:
        return None
    whole, fraction = digits.partition(".")[0], found[4]
    return whole if fraction is None else f"{whole}.{fraction[:6]}"


def as_moment(text: str) -> str | None:
    """A date with a time (DT): YYYY[MM[DD[HH[MM[SS[.F]]]]]][&ZZXX]."""
    found = re.fullmatch(r"([0-9]{4}(?:[0-9]{2}){0,2})((?<=[0-9]{8})[0-9.]+)?([+\-][01][0-9][0-5][0-9])?", text)
    if found is None:
        return None
    day, time, zone = found[1], found[2], found[3] or ""
    if as_date(day + "0101"[len(day) - 4 :]) is None or (time and as_time(time) is None):
        return None
    return f"{day}{as_time(time) if time else ''}{zone}"


def as_age(text: str) -> str | None:
    """An age as nnnD, nnnW, nnnM or nnnY; a number without its unit is none."""
    found = re.fullmatch(r"([0-9]{1,3})\s*([DWMYdwmy])", text)
    return None if found is None else f"{int(found[1]):03d}{found[2].upper()}"


def as_decimal(text: str) -> str | None:
    """A finite number of at most 16 characters; a comma is none of them, for it may part thousands as well."""
    if not re.fullmatch(r"[+\-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+\-]?[0-9]+)?", text):
        return None
    number = float(text)
    if not math.isfinite(number):
        return None
    return text if len(text) <= 16 else str(DSfloat(number, auto_format=True))


def as_name(text: str) -> str | None:
    """A person's name: up to three groups of up to five components, each group cut to 64 characters (PS3.5 6.2.1)."""
    groups = re.sub(r"[\x00-\x1f\x7f]+", " ", text).split("=")
    if "\\" in text or len(groups) > _NAME_GROUPS or any(group.count("^") >= _NAME_COMPONENTS for group in groups):
        return None
    return "=".join(group.strip()[:_LONGEST_NAME_GROUP].rstrip() for group in groups).rstrip("=") or None


def name_components(group: str) -> list[str]:
    """Family, given and middle name, prefix and suffix of one component group of PN (PS3.5 6.2.1.1)."""
    return [*(part.strip() for part in group.split("^")), *[""] * _NAME_COMPONENTS][:_NAME_COMPONENTS]


def written_name(text: str) -> str:
    """A value of PN as people write it, "Family, Given Middle"; "" where it names nobody.

    Of the component groups (PS3.5 6.2.1.1) the alphabetic one, else the next that is there.
    """
    group = next((group for group in text.split("=") if group.strip("^ ")), "")
    family, given, middle, prefix, suffix = name_components(group)
    first = " ".join(part for part in (prefix, given, middle) if part)
    return ", ".join(part for part in (family, first, suffix) if part)


def as_uid(text: str) -> str | None:
    """A UID under one of the roots that there are: 0 to 2 (PS3.5 9.1, X.660)."""
    is_uid = re.fullmatch(r"[0-2](\.(0|[1-9][0-9]*))+", text) and not text.startswith("0.0.")
    return text if is_uid and len(text) <= _LONGEST_UID else None


def _text(text: str, longest: int, has_lines: bool, may_be_cut: bool) -> str | None:
    unwanted = r"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f]+" if has_lines else r"[\x00-\x1f\x7f]+"
    text = re.sub(unwanted, " ", text).strip()
    if not has_lines and "\\" in text or (len(text) > longest and not may_be_cut):
        return None
    return text[:longest].strip() or None


def _code_string(text: str) -> str | None:
    return text.upper() if re.fullmatch(r"[A-Z0-9_ ]{1,16}", text.upper()) else None


def _title(text: str) -> str | None:
    return text if re.fullmatch(r"[\x20-\x5b\x5d-\x7e]{1,16}", text) else None


def _address(text: str) -> str | None:
    return text if re.fullmatch(r"[\x21-\x5b\x5d-\x7e]+", text) else None


def _whole(text: str, least: int, most: int) -> int | None:
    found = re.fullmatch(r"([+\-]?[0-9]+)(\.0*)?", text)
    return int(found[1]) if found is not None and len(text) < 20 and least <= int(found[1]) <= most else None


def _float(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


_READERS: dict[str, Callable[[str], str | int | float | None]] = {
    "DA": as_date,
    "TM": as_time,
    "DT": as_moment,
    "AS": as_age,
    "DS": as_decimal,
    "PN": as_name,
    "UI": as_uid,
    "CS": _code_string,
    "AE": _title,
    "UR": _address,
    "FL": _float,
    "FD": _float,
    **{vr: partial(_whole, least=least, most=most) for vr, (least, most) in _WHOLE_NUMBERS.items()},
}
