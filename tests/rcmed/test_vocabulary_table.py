"""The one table: complete, unambiguous, with codes that DICOM can carry."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from pydicom.sr.codedict import codes

from rcmed.errors import ConfigurationError
from rcmed.image import Modality
from rcmed.vocabulary import load_targets, target_named
from rcmed.vocabulary.table import load_generic_words, load_groups

TARGETS = load_targets()


def test_names_colours_and_synonyms_are_unique():
    assert len(TARGETS) >= 81
    for values in ([t.name for t in TARGETS], [t.colour for t in TARGETS], [s for t in TARGETS for s in t.synonyms]):
        assert [value for value, count in Counter(values).items() if count > 1] == []
    assert {t.name for t in TARGETS}.isdisjoint(s for t in TARGETS for s in t.synonyms)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_every_entry_is_complete(target):
    assert target.name == target.name.lower().strip()
    assert len(target.synonyms) >= 3
    assert target.modalities
    assert all(0 <= channel <= 255 for channel in target.colour)
    # CID 7150.
    assert target.category.value in {"91723000", "49755003", "85756007", "260787004"}
    for code in filter(None, (target.category, target.type, target.region, target.laterality)):
        assert code.scheme in {"SCT", "DCM", "99RCMED"}
        # PS3.5: Code Value is SH (16), Code Meaning LO (64).
        assert len(code.value) <= 16 and 0 < len(code.meaning) <= 64
        assert code.scheme != "SCT" or re.fullmatch(r"\d{6,18}", code.value)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_snomed_codes_have_a_valid_check_digit(target):
    for code in filter(None, (target.category, target.type, target.region, target.laterality)):
        if code.scheme == "SCT":
            assert verhoeff_holds(code.value), f"{code} is mistyped"


def verhoeff_holds(number: str) -> bool:
    """The check digit of SNOMED CT identifiers (SNOMED CT Technical Implementation Guide, Verhoeff's dihedral D5)."""

    def multiply(a: int, b: int) -> int:
        if a < 5:
            return (a + b) % 5 if b < 5 else 5 + (a + b) % 5
        return 5 + (a - b) % 5 if b < 5 else (a - b) % 5

    shuffle = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4]
    check = 0
    for place, digit in enumerate(int(d) for d in reversed(number)):
        for _ in range(place % 8):
            digit = shuffle[digit]
        check = multiply(check, digit)
    return check == 0


def test_sides_are_coded():
    for target in TARGETS:
        side = target.name.split()[0]
        # Chambers of the heart have a code of their own for each side.
        if side in ("left", "right") and "atrium" not in target.name and "ventricle" not in target.name:
            expected = codes.SCT.Left if side == "left" else codes.SCT.Right
            assert target.laterality is not None and target.laterality.value == expected.value
        else:
            assert target.laterality is None


def test_codes_agree_with_the_standard():
    assert target_named("liver").type.value == codes.SCT.Liver.value
    assert target_named("optic disc").type.value == codes.SCT.OpticNerveHead.value
    assert target_named("pneumothorax").type.value == codes.SCT.Pneumothorax.value
    assert target_named("ground glass opacity").type.value == codes.DCM.GroundGlassOpacity.value


def test_groups_and_generic_words_name_several_targets():
    assert all(len(targets) > 1 for targets in load_groups().values())
    assert all(targets for targets in load_generic_words().values())


def test_an_unknown_name_is_said():
    with pytest.raises(ConfigurationError, match="hepar"):
        target_named("hepar")


def test_every_modality_shows_something():
    assert {modality for target in TARGETS for modality in target.modalities} == set(Modality)
