"""Free text to targets."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rcmed.modality import Modality
from rcmed.vocabulary import load_targets, resolve_targets

TARGETS = load_targets()
CT, MR, PET, XR, US = Modality.CT, Modality.MR, Modality.PET, Modality.X_RAY, Modality.ULTRASOUND
FUNDUS, PATHOLOGY, DERMOSCOPY = Modality.FUNDUS, Modality.PATHOLOGY, Modality.DERMOSCOPY
TERMS = [(target.name, term) for target in TARGETS for term in (target.name, *target.synonyms)]


def names(text: str, modality: Modality | None = None) -> list[str]:
    return [target.name for target in resolve_targets(text, modality).targets]


@pytest.mark.parametrize(("name", "term"), TERMS)
def test_every_term_resolves_to_its_target(name, term):
    texts = [term, term.upper(), f"Please segment the {term} in this image.", f"{term}?"]
    if len(term) > 2 and not term.endswith(("s", "ae")):
        texts.append(f" any {term}s visible")
    for text in texts:
        resolution = resolve_targets(text)
        assert [target.name for target in resolution.targets] == [name], text
        assert resolution.unresolved == ()


@given(st.lists(st.sampled_from(TERMS), min_size=2, max_size=4), st.sampled_from([", ", "; ", "\n", " and ", ", and "]))
def test_separators(terms, separator):
    resolution = resolve_targets(separator.join(term for _, term in terms))
    found = [target.name for target in resolution.targets]
    # A longer name may arise across "and" ("portal and splenic vein"); nothing may be lost without a word.
    expected = list(dict.fromkeys(name for name, _ in terms))
    if " and " in separator:
        assert found
    else:
        assert (found, resolution.unresolved) == (expected, ())


@given(st.text(max_size=60))
def test_any_text_gets_an_answer(text):
    resolution = resolve_targets(text)
    assert len(resolution.targets) == len(resolution.phrases)
    assert bool(text.strip()) == bool(resolution.targets or resolution.unresolved)


@given(st.text(string.ascii_lowercase + " ,;.-", max_size=40), st.sampled_from(list(Modality)))
def test_the_same_text_gets_the_same_answer(text, modality):
    assert resolve_targets(text, modality) == resolve_targets(text, modality)


PARAPHRASES = [
    ("please outline the liver and both kidneys", None, ["liver", "left kidney", "right kidney"]),
    ("Spleen?", None, ["spleen"]),
    ("spleen, please!!", None, ["spleen"]),
    ("Where's the patient's spleen?", None, ["spleen"]),
    ("optic nerve head", None, ["optic disc"]),
    ("segment liver, spleen and left kidney", None, ["liver", "spleen", "left kidney"]),
    ("Segment the liver. Then find the spleen.", None, ["liver", "spleen"]),
    ("heart\nlungs;aorta", None, ["heart", "lung", "aorta"]),
    ("liver/spleen & pancreas + colon", None, ["liver", "spleen", "pancreas", "colon"]),
    ("liver spleen", None, ["liver", "spleen"]),
    ("liver and the liver", None, ["liver"]),
    ("I would like to see the gall-bladder", None, ["gallbladder"]),
    ("can you show me the URINARY BLADDER in this CT scan?", None, ["urinary bladder"]),
    ("contour the oesophagus", None, ["esophagus"]),
    ("breast lesion", US, ["breast tumor"]),
    ("breast lesion", Modality.X_RAY, ["breast lesion"]),
    ("breast lump", Modality.X_RAY, ["breast lesion"]),
    ("both parotids", CT, ["left parotid gland", "right parotid gland"]),
    ("ischaemic penumbra", CT, ["ischemic stroke penumbra"]),
    ("lateral ventricles", MR, ["brain ventricle"]),
    ("vocal cords", Modality.ENDOSCOPY, ["vocal fold"]),
    ("glomeruli", Modality.PATHOLOGY, ["glomerulus"]),
    ("kidney tumour", CT, ["kidney tumor"]),
    ("renal masses", CT, ["kidney tumor"]),
    ("tumor of the kidney", None, ["kidney tumor"]),
    ("tumours of the kidney and the liver", None, ["kidney tumor", "liver"]),
    ("is there a tumor in this brain MRI?", MR, ["brain tumor"]),
    ("hepatic and renal tumors", None, ["liver tumor", "kidney tumor"]),
    ("left and right kidney", None, ["left kidney", "right kidney"]),
    ("left kidney and right", None, ["left kidney", "right kidney"]),
    ("kidney, left", None, ["left kidney"]),
    ("lung on the left side", None, ["left lung"]),
    ("left-sided lung", None, ["left lung"]),
    ("the lungs", None, ["lung"]),
    ("both lungs", None, ["left lung", "right lung"]),
    ("bilateral adrenal glands", None, ["left adrenal gland", "right adrenal gland"]),
    ("hard and soft exudates", FUNDUS, ["hard exudate", "soft exudate"]),
    ("cotton-wool spots", FUNDUS, ["soft exudate"]),
    ("superior and inferior vena cava", None, ["superior vena cava", "inferior vena cava"]),
    ("portal vein and splenic vein, aorta", None, ["portal and splenic vein", "aorta"]),
    ("benign and malignant breast tumors", US, ["benign breast tumor", "malignant breast tumor"]),
    ("retinal haemorrhages", None, ["retinal haemorrhage"]),
    ("bleeding in the retina", None, ["retinal haemorrhage"]),
    ("haemorrhage", CT, ["intracranial hemorrhage"]),
    ("haemorrhage", FUNDUS, ["retinal haemorrhage"]),
    ("peritumoural oedema", MR, ["peritumoral edema"]),
    ("vertebrae and discs", MR, ["vertebra", "intervertebral disc"]),
    ("hippocampi", MR, ["hippocampus"]),
    ("Is there any pneumothorax in this chest X-ray", XR, ["pneumothorax"]),
    ("rule out pneumothorax", XR, ["pneumothorax"]),
    ("endotracheal tube, NG tube", XR, ["endotracheal tube", "nasogastric tube"]),
    ("optic disc in this retinal image", FUNDUS, ["optic disc"]),
    (
        "white blood cells, their nuclei and cytoplasm",
        PATHOLOGY,
        ["white blood cell", "nuclei", "white blood cell cytoplasm"],
    ),
    ("lesions", DERMOSCOPY, ["skin lesion"]),
    ("tumor", PET, ["soft tissue sarcoma"]),
    ("vessels", FUNDUS, ["retinal vessel"]),
    ("show me where the polyps are", None, ["polyp"]),
    ("kidny", None, ["kidney"]),
    ("the pancrease and splean", None, ["pancreas", "spleen"]),
    ("pnuemothorax", None, ["pneumothorax"]),
    ("volume of the liver in ml", None, ["liver"]),
    ("size of the left ventricle and myocardium", MR, ["left ventricle", "myocardium"]),
    ("white matter and MS lesions", MR, ["white matter lesion", "multiple sclerosis lesion"]),
]


@pytest.mark.parametrize(("text", "modality", "expected"), PARAPHRASES)
def test_paraphrases(text, modality, expected):
    resolution = resolve_targets(text, modality)
    assert [target.name for target in resolution.targets] == expected
    assert resolution.unresolved == ()
    assert all(phrase in text for phrase in resolution.phrases)


UNRESOLVED = [
    ("optic cup", FUNDUS, "near are optic disc"),
    ("optic nerve", None, "optic disc"),
    ("left kidney cyst", CT, "left kidney"),
    ("spinal cord tumor", MR, "spinal cord"),
    ("gallbladder polyp", None, "gallbladder"),
    ("left atrial appendage", CT, "left atrium"),
    ("brain", MR, "brain tumor"),
    ("livr", None, "liver"),
    ("xyzzy", None, "`xyzzy` names no known target"),
    ("肝臓", None, "`肝臓` names no known target"),
    ("tumor", US, "ambiguous: say liver lesion"),
    ("tumour", None, "ambiguous"),
    ("ventricles", MR, "say left ventricle, right ventricle or brain ventricle"),
    ("tumor", FUNDUS, "names no target of fundus images"),
    ("no liver", None, "`no liver` is negated"),
    ("don't segment the liver", None, "negated"),
    ("without the spleen", None, "negated"),
    ("neither liver nor spleen", None, "`nor spleen` is negated"),
    ("all but the liver", None, "negated"),
    ("segment everything", None, "names no target: name one"),
    ("!?", None, "names no target"),
]


@pytest.mark.parametrize(("text", "modality", "reason"), UNRESOLVED)
def test_what_does_not_resolve_is_said(text, modality, reason):
    resolution = resolve_targets(text, modality)
    assert resolution.targets == ()
    assert reason in " ".join(resolution.unresolved)


def test_a_negation_ends_with_its_part_of_the_list():
    assert names("liver but not the spleen") == ["liver"]
    assert names("liver, no spleen, kidney") == ["liver", "kidney"]
    assert names("no liver, spleen or kidney") == []
    assert names("no liver and show the spleen") == ["spleen"]


def test_one_unknown_part_leaves_the_others():
    resolution = resolve_targets("liver, flux capacitor and spleen")
    assert [target.name for target in resolution.targets] == ["liver", "spleen"]
    assert len(resolution.unresolved) == 1 and "flux capacitor" in resolution.unresolved[0]


def test_blank_text_asks_nothing():
    assert resolve_targets(" \n ") == resolve_targets("")
    assert resolve_targets("").unresolved == ()


@given(st.sampled_from([t.name for t in TARGETS]), st.data())
def test_a_misspelling_is_mended_or_said_but_never_another_target(name, data):
    words = name.split()
    place = data.draw(st.integers(0, len(words) - 1))
    word = words[place]
    at = data.draw(st.integers(1, len(word)))
    words[place] = word[:at] + data.draw(st.sampled_from("qxzjk")) + word[at:]
    resolution = resolve_targets(" ".join(words))
    assert [target.name for target in resolution.targets] in ([name], [])
    assert resolution.targets or resolution.unresolved
