"""The one table: complete, unambiguous, with codes that DICOM can carry."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from highdicom.color import CIELabColor
from pydicom.sr.codedict import codes

from rcmed.errors import ConfigurationError
from rcmed.modality import Modality
from rcmed.vocabulary import BodyRegion, load_targets, table, target_named
from rcmed.vocabulary.mirroring import mirrored_name
from rcmed.vocabulary.table import canonical_name, load_generic_words, load_groups

TARGETS = load_targets()
CHAMBERS = ("atrium", "ventricle")
_READ = table._target


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


def test_the_two_of_a_paired_organ_mirror_each_other():
    """One code with two sides is a pair; heart chambers have a code each, and stay what they are."""
    sided = {(t.type.value, t.laterality.meaning): t for t in TARGETS if t.laterality is not None}
    opposite = {"Left": "Right", "Right": "Left"}
    assert len(sided) >= 10
    for (code, side), target in sided.items():
        other = sided.get((code, opposite[side]))
        assert target.mirror == (None if other is None else other.name), target.name
    assert all(target_named(f"{side} {part}").mirror is None for side in ("left", "right") for part in CHAMBERS)


@pytest.mark.parametrize(
    ("name", "mirrored"),
    [
        ("right adrenal gland", "left adrenal gland"),
        ("left iliopsoas muscle", "right iliopsoas muscle"),
        ("Left Kidney", "Right Kidney"),
        ("kidney_left", "kidney_right"),
        ("left renal organ", "right renal organ"),
        ("left parotid gland", "right parotid gland"),
        ("left and right lungs", "right and left lungs"),
        ("left lateral ventricle", "right lateral ventricle"),
        ("left ventricle", "left ventricle"),
        ("right atrium", "right atrium"),
        ("left heart ventricle", "left heart ventricle"),
        ("left papillary muscle", "left papillary muscle"),
        ("left lobe of the liver", "left lobe of the liver"),
        ("liver", "liver"),
        ("cleft", "cleft"),
    ],
)
def test_a_mirrored_image_shows_the_other_of_a_paired_organ_only(name, mirrored):
    assert mirrored_name(name) == mirrored
    assert mirrored_name(mirrored) == name


def test_a_mirror_that_does_not_mirror_back_is_refused(monkeypatch):
    one_sided = replace(target_named("left kidney"), mirror="liver")
    monkeypatch.setattr(table, "_target", lambda entry: one_sided if entry["name"] == "left kidney" else _READ(entry))
    with pytest.raises(ConfigurationError, match="mirror of `left kidney` is `liver`"):
        table.load_targets.__wrapped__()


def test_every_target_lies_somewhere_in_the_body():
    assert all(target.body_regions for target in TARGETS)
    assert {region for target in TARGETS for region in target.body_regions} == set(BodyRegion)
    assert target_named("liver").body_regions == {BodyRegion.CHEST, BodyRegion.ABDOMEN}
    assert BodyRegion.HEAD not in target_named("lung").body_regions
    assert BodyRegion.HEAD in target_named("spinal cord").body_regions


def test_both_spellings_of_an_annotation_are_one_target():
    assert canonical_name("oesophagus") == canonical_name("esophagus") == "esophagus"
    assert canonical_name("a name of one's own") == "a name of one's own"


def test_colours_are_told_apart():
    lab = [CIELabColor.from_rgb(*target.colour) for target in TARGETS]
    values = np.array([[colour.l_star, colour.a_star, colour.b_star] for colour in lab])
    apart = np.linalg.norm(values[:, None] - values[None], axis=-1)
    assert apart[~np.eye(len(values), dtype=bool)].min() > 15
