"""Radionuclides that PET is made with: which one a header names, and whether a half-life is one of theirs."""

from __future__ import annotations

import re

from pydicom import Dataset
from pydicom.sr.codedict import Code, codes

from dicom_bridge.series.headers.instance import text, value

# Name as in PS3.16 CID 4020 (iodine 120 and cobalt 55 beside it) -> seconds (evaluated nuclear structure data, ENSDF).
HALF_LIVES: dict[str, float] = {
    "11Carbon": 1221.8,
    "13Nitrogen": 597.9,
    "14Oxygen": 70.62,
    "15Oxygen": 122.24,
    "18Fluorine": 6586.2,
    "22Sodium": 8.2105e7,
    "38Potassium": 458.2,
    "43Scandium": 14007.6,
    "44Scandium": 14551.0,
    "45Titanium": 11088.0,
    "51Manganese": 2772.0,
    "52Iron": 29790.0,
    "52Manganese": 483062.0,
    "52mManganese": 1266.0,
    "55Cobalt": 63108.0,
    "60Copper": 1422.0,
    "61Copper": 12020.0,
    "62Copper": 580.4,
    "62Zinc": 33094.0,
    "64Copper": 45724.0,
    "66Gallium": 34164.0,
    "68Gallium": 4062.6,
    "68Germanium": 2.3406e7,
    "70Arsenic": 3156.0,
    "72Arsenic": 93600.0,
    "73Selenium": 25740.0,
    "75Bromine": 5802.0,
    "76Bromine": 58320.0,
    "77Bromine": 205344.0,
    "82Rubidium": 75.45,
    "86Yttrium": 53064.0,
    "89Zirconium": 282276.0,
    "90Niobium": 52560.0,
    "90Yttrium": 230580.0,
    "94mTechnetium": 3120.0,
    "120Iodine": 4896.0,
    "124Iodine": 360806.0,
    "152Terbium": 63000.0,
}
# Older tables, and scanners that keep them, differ by up to 2 % (rubidium, scandium).
_TOLERANCE = 0.03
# As people write them: "F-18", "18F", "[68Ga]". FDG is made with fluorine 18 alone.
_SYMBOLS = {
    **{"Carbon": "C", "Nitrogen": "N", "Oxygen": "O", "Fluorine": "F", "Copper": "Cu", "Gallium": "Ga"},
    **{"Rubidium": "Rb", "Yttrium": "Y", "Zirconium": "Zr", "Iodine": "I", "Scandium": "Sc"},
}


def named_nuclide(tracer: Dataset) -> str | None:
    """The nuclide that an item of Radiopharmaceutical Information Sequence (0054,0016) names, a key of `HALF_LIVES`.

    Radionuclide Code Sequence (0054,0300) counts first, then Radiopharmaceutical (0018,0031); None where neither tells.
    """
    coded = value(tracer, "RadionuclideCodeSequence")
    if coded:
        given = Code(text(coded[0], "CodeValue"), text(coded[0], "CodingSchemeDesignator"), "")
        for name, code in codes.cid4020.concepts.items():
            if code == given:
                return str(name).removeprefix("_")
    words = f"{text(coded[0], 'CodeMeaning') if coded else ''} {text(tracer, 'Radiopharmaceutical')}"
    for name in HALF_LIVES:
        mass, element = re.fullmatch(r"(\d+m?)(\w+)", name).groups()  # type: ignore[union-attr]
        symbol = _SYMBOLS.get(element, element)
        written = rf"\^{mass}\^ ?{element}|(?<!\w){mass}-?{symbol}(?!\w)|(?<!\w)(?:{symbol}|{element})[- ]?{mass}(?!\w)"
        if re.search(written, words):
            return name
    return "18Fluorine" if re.search(r"FDG|[Ff]luor(?:o)?deoxyglucose", words) else None


def odd_half_life(seconds: float, nuclide: str | None) -> str | None:
    """Why a half-life can't be right: not that of the named nuclide, or of none that PET is made with; None if it can.

    Args:
        seconds: as told.
        nuclide: a key of `HALF_LIVES`, or None where nobody says.
    """
    if nuclide in HALF_LIVES:
        wanted = HALF_LIVES[nuclide]
        return None if _near(seconds, wanted) else f"of {seconds:g} s is not that of {nuclide}, {wanted:g} s"
    if any(_near(seconds, wanted) for wanted in HALF_LIVES.values()):
        return None
    return f"of {seconds:g} s is that of no positron emitter; it is to be in seconds"


def _near(seconds: float, wanted: float) -> bool:
    return abs(seconds - wanted) <= _TOLERANCE * wanted
