"""The weights that come with the package."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from rcmed import Assistant
from rcmed.hints import Hint
from rcmed.image import Grid, Image
from rcmed.modality import Modality
from rcmed.model.modeling import RCMedModel
from rcmed.model.packaged import model_folder
from rcmed.model.processor import RCMedProcessor
from rcmed.readers import read_images

FOLDER = model_folder("small")


@pytest.fixture(scope="module")
def assistant() -> Assistant:
    return Assistant.from_pretrained("small", "cpu")


@pytest.fixture(scope="module")
def retina() -> Image:
    """scikit-image's fundus photograph: the optic disc is the bright disc, vessels are dark lines."""
    spec = find_spec("skimage")
    assert spec is not None and spec.origin is not None
    (image,) = read_images(Path(spec.origin).parent / "data" / "retina.jpg", Modality.FUNDUS)
    return image


def test_they_are_small_and_their_card_names_every_data_set() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 40e6
    card = (FOLDER / "README.md").read_text()
    for word in ("isic2017", "CC0-1.0", "chase_db1", "GPL-3.0", "busi", "not usable"):
        assert word in card


def test_their_card_counts_what_they_know(assistant: Assistant) -> None:
    card = " ".join((FOLDER / "README.md").read_text().split())
    taught = assistant.model.config.positives.values()
    counts = [each["patients"] for modalities in taught for each in modalities.values()]
    assert f"finds {len(assistant.trained_targets)} targets in nine kinds" in card
    assert f"{sum(count > 0 for count in counts)} pairs of target and modality are known" in card
    assert f"{counts.count(0)} pairs (pneumothorax" in card


def test_every_from_pretrained_knows_them(assistant: Assistant) -> None:
    assert RCMedModel.from_pretrained("small").config.target_names == assistant.model.config.target_names
    assert RCMedProcessor.from_pretrained("small").image_size == assistant.processor.image_size


def test_the_optic_disc_is_the_bright_disc(assistant: Assistant, retina: Image) -> None:
    (finding,) = assistant.find(retina, "optic nerve head").findings
    assert finding.target is not None and finding.target.name == "optic disc"
    assert finding.mask is not None
    mask, green = finding.mask[0], retina.pixels[0, ..., 1].astype(float)
    inside_eye = retina.pixels[0].max(axis=-1) > 20
    assert 0.002 < mask.mean() < 0.06
    assert green[mask].mean() > green[inside_eye].mean() + 2 * green[inside_eye].std()


@pytest.mark.slow
def test_a_click_and_a_box_find_it_without_a_name(assistant: Assistant, retina: Image) -> None:
    disc = assistant.find(retina, "optic disc").findings[0].mask
    assert disc is not None
    rows, columns = (np.nonzero(disc[0].any(axis))[0] for axis in (1, 0))
    box = (rows[0], columns[0], rows[-1], columns[-1])
    centre = (float(rows.mean()), float(columns.mean()))
    for hint in (Hint(inside=(centre,)), Hint(box=box)):
        (finding,) = assistant.find(retina, "", {0: hint}).findings
        assert finding.target is not None and finding.target.name == "region pointed at"
        assert finding.mask is not None
        assert 2 * (finding.mask & disc).sum() / (finding.mask.sum() + disc.sum()) > 0.8


def test_vessels_are_darker_than_what_lies_beside_them(assistant: Assistant, retina: Image) -> None:
    from scipy import ndimage

    (finding,) = assistant.find(retina, "retinal vessel").findings
    assert finding.mask is not None
    mask, green = finding.mask[0], retina.pixels[0, ..., 1].astype(float)
    beside = ndimage.binary_dilation(mask, iterations=12) & ~ndimage.binary_dilation(mask, iterations=4)
    local = ndimage.uniform_filter(green, 41)
    assert 0.03 < mask.mean() < 0.25
    assert (green - local)[mask].mean() < (green - local)[beside].mean() - 3
    # A shifted or mirrored mask would lie on the vessels less well.
    for other in (np.roll(mask, 12, axis=1), np.roll(mask, 12, axis=0), mask[:, ::-1], mask[::-1]):
        assert (green - local)[mask].mean() < (green - local)[other].mean() - 1


def test_asked_twice_it_says_the_same(assistant: Assistant, retina: Image) -> None:
    crop = Image(retina.pixels[:, :500, :500], Grid.without_geometry(500, 500), Modality.FUNDUS)
    first, second = (assistant.find(crop, "retinal vessel; optic disc").findings for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert one.presence == other.presence and one.status == other.status
        assert (one.mask is None) == (other.mask is None)
        if one.mask is not None and other.mask is not None:
            assert np.array_equal(one.mask, other.mask)


def test_a_photograph_shows_no_liver(assistant: Assistant, retina: Image) -> None:
    (finding,) = assistant.find(retina, "liver").findings
    assert finding.mask is None and finding.status.value in ("absent", "unresolved")
