"""What anatomy does not allow is not found: body regions, possible values, and what is asked for where nobody tells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rcmed.assistant import Assistant
from rcmed.findings import Finding, FindingStatus, ModelIdentity
from rcmed.findings.json_file import findings_to_json
from rcmed.image import STANDARDISED_UPTAKE, Grid, Image
from rcmed.inference.answers import SliceAnswers
from rcmed.inference.decision import Decision
from rcmed.inference.judgement import judge
from rcmed.inference.plausibility import misplaced_because, regions_shown
from rcmed.modality import Modality
from rcmed.model.config import Lesson, RCMedConfig
from rcmed.model.heads.regions import likely_regions
from rcmed.vocabulary import BodyRegion, load_targets, target_named
from rcmed.vocabulary.named import private_target
from rcmed.vocabulary.region_words import regions_named

HEAD, NECK, CHEST, ABDOMEN, PELVIS, LIMB, SPINE = (
    *(BodyRegion.HEAD, BodyRegion.NECK, BodyRegion.CHEST, BodyRegion.ABDOMEN, BodyRegion.PELVIS, BodyRegion.LIMB),
    BodyRegion.SPINE,
)


def volume(slices: int = 6, value: float = 40.0, distance_mm: float = 5.0, **more: Any) -> Image:
    """A CT of 20 x 20 pixels of 2 mm, axial, of one value in HU."""
    affine = np.array([[0, 0, 2.0, 0], [0, 2.0, 0, 0], [distance_mm, 0, 0, 0], [0, 0, 0, 1]])
    pixels = np.full((slices, 20, 20), value, dtype=np.float32)
    # Air around it: a CT.
    pixels[:, :2] = -1000.0
    return Image(pixels, Grid(pixels.shape, affine), Modality.CT, is_volume=True, **more)


def said(image: Image, name: str, regions: frozenset[BodyRegion] | None, asserted: bool = False) -> Finding:
    mask = np.zeros(image.grid.shape, dtype=bool)
    mask[1:4, 5:15, 5:15] = True
    return judge(image, target_named(name), Decision(FindingStatus.FOUND, 0.9, mask), regions, asserted)


def test_no_liver_is_found_in_a_head() -> None:
    finding = said(volume(), "liver", frozenset({HEAD}))
    assert finding.status is FindingStatus.IMPLAUSIBLE and not finding.is_present
    assert finding.mask is None and finding.boxes == () and finding.measurements == ()
    assert finding.reason == "implausible: an image of head does not show liver (chest, abdomen)"
    assert finding.presence == 0.9
    assert said(volume(), "liver", frozenset({ABDOMEN})).status is FindingStatus.FOUND
    assert said(volume(), "liver", None).status is FindingStatus.FOUND, "nobody tells what the image shows"
    assert said(volume(), "liver", frozenset({HEAD}), asserted=True).status is FindingStatus.FOUND


@pytest.mark.parametrize(
    ("name", "value", "is_possible"),
    [
        ("liver", 60, True),
        ("liver", -782, False),
        ("lung", -782, True),
        ("lung", 40, False),
        ("vertebra", 190, True),
        ("vertebra", 0, False),
        ("aorta", 420, True),
        ("colon", -700, True),
    ],
)
def test_a_mean_that_an_organ_cannot_have_is_implausible(name: str, value: float, is_possible: bool) -> None:
    image = volume(value=value)
    finding = said(image, name, None)
    assert finding.status is (FindingStatus.FOUND if is_possible else FindingStatus.IMPLAUSIBLE)
    if not is_possible:
        assert f"mean attenuation {value} HU is not possible for {name}" in (finding.reason or "")
        # The same numbers in no known unit say nothing.
        unknown = replace(image, unit="1")
        assert said(unknown, name, None).status is FindingStatus.FOUND


def test_an_uptake_and_a_size_that_cannot_be_are_implausible() -> None:
    pet = replace(volume(value=4.0), modality=Modality.PET, unit=STANDARDISED_UPTAKE)
    assert said(pet, "soft tissue sarcoma", None).status is FindingStatus.FOUND
    finding = said(replace(pet, pixels=np.full(pet.grid.shape, 900.0)), "soft tissue sarcoma", None)
    assert finding.status is FindingStatus.IMPLAUSIBLE and "mean SUV" in (finding.reason or "")
    wide = Grid(volume().grid.shape, volume().grid.affine @ np.diag([1, 10.0, 10.0, 1]))
    finding = said(replace(volume(value=20), grid=wide), "brainstem", None)
    assert "is not possible for brainstem (0 to 100)" in (finding.reason or "")


@given(st.sampled_from(load_targets()), st.sets(st.sampled_from(list(BodyRegion)), min_size=1))
def test_a_target_is_misplaced_only_where_no_region_is_its_own(target: Any, regions: set[BodyRegion]) -> None:
    assert (misplaced_because(target, regions) is None) == bool(regions & target.body_regions)
    assert misplaced_because(target, None) is None
    assert misplaced_because(private_target("pedicle screw", [Modality.CT]), regions) is None


def test_a_long_volume_shows_what_lies_beside_the_region_that_is_told() -> None:
    short = volume(body_regions=frozenset({CHEST}))
    assert regions_shown(short) == {CHEST}
    assert regions_shown(volume(slices=100, body_regions=frozenset({CHEST}))) == {NECK, CHEST, ABDOMEN}
    assert regions_shown(volume(slices=100, body_regions=frozenset({HEAD}))) == {HEAD, NECK}
    assert regions_shown(volume(slices=100)) is None


@pytest.mark.parametrize(
    ("text", "regions"),
    [
        ("HEAD", {HEAD}),
        ("CHESTABDPELVIS", {CHEST, ABDOMEN, PELVIS}),
        ("NECKCHESTABDPELV", {NECK, CHEST, ABDOMEN, PELVIS}),
        ("ABDOMENPELVIS", {ABDOMEN, PELVIS}),
        ("1A TRAUMA/PLAIN HEAD DM", {HEAD}),
        ("CT Thorax/Abdomen nativ", {CHEST, ABDOMEN}),
        ("Schädel-MRT", {HEAD}),
        ("MRT_OBERBAUCH", {ABDOMEN, PELVIS}),
        ("scanner thoraco-abdomino-pelvien", {CHEST, ABDOMEN, PELVIS}),
        ("IRM cérébrale", {HEAD}),
        ("TC de tórax", {CHEST}),
        ("RM encéfalo", {HEAD}),
        ("CT bekken", {PELVIS}),
        ("МРТ головного мозга", {HEAD}),
        ("頭部CT", {HEAD}),
        ("복부 CT", {ABDOMEN}),
        ("HWS nativ", {NECK, SPINE}),
        ("Distal TIBIA", {LIMB}),
        ("LEFT WRIST", {LIMB}),
        ("Echocardiogram", {CHEST}),
        ("hippocampus", {HEAD}),
        ("BREAST", {BodyRegion.BREAST}),
        ("e+1", set()),
        ("T1W/SE/1024", set()),
        ("handling", set()),
        ("", set()),
    ],
)
def test_words_of_many_languages_name_body_regions(text: str, regions: set[BodyRegion]) -> None:
    assert regions_named(text) == regions


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    assert regions_named(text) <= set(BodyRegion)


def assistant_that_sees(
    everything_at: float,
    recognise_from: tuple[float, float] | None = None,
    regions: Mapping[BodyRegion, float] = MappingProxyType({}),
) -> Assistant:
    """Weights that mark a square of every target of a slice with this presence, and see body regions."""

    class Reader:
        def read(self, pixels: Any, names: Any, modality: Any, hints: Any, boxes: Any) -> Iterator[SliceAnswers]:
            masks = np.zeros((len(names), *pixels.shape[:3]), dtype=bool)
            masks[:, :, 5:15, 5:15] = True
            shape = (len(names), pixels.shape[0])
            presence, sureness = np.full(shape, everything_at, np.float32), np.zeros(shape, np.float32)
            seen = np.tile(np.array(list(regions.values()), np.float32), (pixels.shape[0], 1)) if regions else None
            yield SliceAnswers(0, masks, presence, sureness, regions=seen)

    config = RCMedConfig(
        presence_thresholds=(0.25, 0.6),
        recognise_from=recognise_from,
        tiled_targets=(),
        body_regions=tuple(regions),
        region_least=0.1,
    )
    config.teach(Lesson(name, "ct", "p1", True) for name in ("liver", "spleen", "brainstem"))
    config.teach([Lesson("skin lesion", "dermoscopy", "p1", True)])
    model: Any = SimpleNamespace(config=config, eval=lambda: model, device="cpu")
    processor: Any = SimpleNamespace(surroundings=lambda: (torch.zeros(1), torch.zeros(1)))
    assistant = Assistant(model, processor, ModelIdentity("made", "1", "0" * 64))
    assistant._reader = Reader()  # type: ignore[assignment]
    return assistant


def statuses(assistant: Assistant, image: Image, prompts: str = "") -> dict[str, str]:
    findings = assistant.find(image, prompts).findings
    return {f.target.name: f.status.value for f in findings if f.target is not None}


def test_a_head_asked_for_everything_has_no_abdominal_organ() -> None:
    head = volume(body_regions=frozenset({HEAD}))
    assistant = assistant_that_sees(0.95)
    expected = {"brainstem": "found", "liver": "implausible", "spleen": "implausible"}
    assert statuses(assistant, head) == statuses(assistant, head, "brainstem; liver; spleen") == expected
    findings = assistant.find(head, "liver; brainstem")
    assert findings.answer == "This is a computed tomography image. The image contains brainstem. Not seen: liver."
    told, there = findings_to_json(head, findings)["findings"]
    assert (told["status"], told["present"], told["mask"]) == ("implausible", False, None)
    assert "does not show liver" in told["reason"] and there["present"] is True


def test_what_the_weights_see_stands_for_a_region_that_nobody_tells() -> None:
    assistant = assistant_that_sees(0.99, (0.9, 0.97), {HEAD: 0.98, ABDOMEN: 0.03, NECK: 0.12})
    expected = {"brainstem": "found", "liver": "implausible", "spleen": "implausible"}
    assert statuses(assistant, volume()) == statuses(assistant, volume(), "brainstem; liver; spleen") == expected
    (told,) = findings_to_json(volume(), assistant.find(volume(), "liver"))["findings"]
    assert told["reason"] == ("implausible: an image that looks like head, neck does not show liver (chest, abdomen)")
    belly = volume(body_regions=frozenset({ABDOMEN}))
    assert statuses(assistant, belly, "liver") == {"liver": "found"}, "what a header tells counts"


@pytest.mark.parametrize("slices", [1, 9, 40])
def test_regions_that_are_not_unlikely_are_allowed(slices: int) -> None:
    names = [HEAD.value, NECK.value, ABDOMEN.value]
    likely = np.tile(np.array([0.04, 0.6, 0.01], np.float32), (slices, 1))
    assert likely_regions(likely, names, 0.05, set(BodyRegion)) == {NECK}
    assert likely_regions(likely, names, 0.9, set(BodyRegion)) == {NECK}, "the likeliest one always"
    assert likely_regions(likely, names, 0.03, {HEAD, ABDOMEN}) == {HEAD}, "of what such images can show"
    assert likely_regions(likely, names, 0.03, ()) == frozenset()
    likely[0, 2] = 0.9
    assert (ABDOMEN in likely_regions(likely, names, 0.5, set(BodyRegion))) == (slices < 20), (
        "one slice among many is no sign"
    )


def test_asked_for_everything_a_finding_needs_a_higher_presence() -> None:
    image = volume(body_regions=frozenset({ABDOMEN}))
    assert statuses(assistant_that_sees(0.8, (0.9, 0.97)), image) == {}
    assert statuses(assistant_that_sees(0.8, (0.9, 0.97)), image, "liver") == {"liver": "found"}
    assert statuses(assistant_that_sees(0.95, (0.9, 0.97)), image) == {
        "liver": "found",
        "spleen": "found",
        "brainstem": "implausible",
    }
    assert statuses(assistant_that_sees(0.95, (0.9, 0.97)), volume()) == {}, "nobody tells the body region"
    assert set(statuses(assistant_that_sees(0.99, (0.9, 0.97)), volume()).values()) == {"found"}


def test_nothing_is_recognised_in_an_image_of_unknown_kind() -> None:
    assistant = assistant_that_sees(0.99)
    pixels = np.zeros((1, 20, 20, 3), dtype=np.uint8)
    capture = Image(pixels, Grid.without_geometry(20, 20), Modality.DERMOSCOPY, is_modality_assumed=True)
    found = assistant.find(capture)
    assert found.findings == () and "Nothing says what kind of image this is" in found.answer
    assert statuses(assistant, capture, "skin lesion") == {"skin lesion": "found"}
    assert statuses(assistant, replace(capture, is_modality_assumed=False)) == {"skin lesion": "found"}
