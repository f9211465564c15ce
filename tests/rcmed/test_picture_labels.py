"""Masks with a palette or transparency: what is drawn is drawn, what can't be known is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from rcmed.errors import InputError
from rcmed.modality import Modality
from rcmed.readers.picture_labels import DRAWN_FIRST_COLOUR, read_labels

BLACK, WHITE, RED, GREEN = (0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 255, 0)
DRAWN = np.zeros((12, 10), bool)
DRAWN[2:6, 3:9] = True


def drawn(path: Path) -> np.ndarray:
    pixels = read_labels(path, Modality.DERMOSCOPY).pixels[0]
    return pixels.any(-1) if pixels.ndim == 3 else pixels > 0


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize(
    ("ink", "ground"), [(RED, RED), (RED, BLACK), (RED, WHITE), (BLACK, BLACK), (WHITE, BLACK), (BLACK, WHITE)]
)
def test_what_is_transparent_is_not_drawn(
    ink: tuple[int, int, int], ground: tuple[int, int, int], suffix: str, tmp_path: Path
) -> None:
    rgba = np.zeros((12, 10, 4), np.uint8)
    rgba[..., :3], rgba[..., 3] = np.where(DRAWN[..., None], ink, ground), DRAWN * 255
    PillowImage.fromarray(rgba).save(tmp_path / f"mask{suffix}")
    assert (drawn(tmp_path / f"mask{suffix}") == DRAWN).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_an_opaque_mask_is_drawn_where_it_is_not_black(mode: str, tmp_path: Path) -> None:
    PillowImage.fromarray(DRAWN.astype(np.uint8) * 255).convert(mode).save(tmp_path / "mask.png")
    image = read_labels(tmp_path / "mask.png", Modality.DERMOSCOPY)
    assert not image.is_colour and (image.pixels[0] == DRAWN * 255).all()


def test_black_and_colours_on_a_transparent_ground_are_refused(tmp_path: Path) -> None:
    rgba = np.zeros((12, 10, 4), np.uint8)
    rgba[DRAWN] = (*RED, 255)
    rgba[8, 8] = (*BLACK, 255)
    PillowImage.fromarray(rgba).save(tmp_path / "mask.png")
    with pytest.raises(InputError, match=r"mask\.png.*black"):
        read_labels(tmp_path / "mask.png", Modality.DERMOSCOPY)


def of_palette(path: Path, indices: np.ndarray, colours: list[tuple[int, int, int]], clear: int | None = None) -> None:
    picture = PillowImage.fromarray(indices.astype(np.uint8), "L").copy()
    picture.putpalette([channel for colour in colours for channel in colour])
    picture.save(path, **({} if clear is None else {"transparency": clear}))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(labels=st.lists(st.integers(0, 3), min_size=12, max_size=12))
def test_palette_indices_are_the_labels(tmp_path: Path, suffix: str, labels: list[int]) -> None:
    indices = np.reshape(labels, (3, 4))
    of_palette(tmp_path / f"map{suffix}", indices, [BLACK, RED, GREEN, WHITE])
    assert (read_labels(tmp_path / f"map{suffix}", Modality.CT).pixels[0] == indices).all()


@pytest.mark.parametrize(
    ("colours", "clear"), [([RED, BLACK], None), ([WHITE, BLACK], None), ([RED, WHITE], 1), ([RED, RED], 1)]
)
def test_black_or_transparent_is_the_ground_of_a_palette_whatever_its_index(
    colours: list[tuple[int, int, int]], clear: int | None, tmp_path: Path
) -> None:
    of_palette(tmp_path / "mask.png", ~DRAWN, colours, clear)
    pixels = read_labels(tmp_path / "mask.png", Modality.CT).pixels[0]
    assert ((pixels > 0) == DRAWN).all() and set(pixels[DRAWN]) == {DRAWN_FIRST_COLOUR}


def test_a_palette_without_black_has_no_ground(tmp_path: Path) -> None:
    of_palette(tmp_path / "mask.png", DRAWN, [WHITE, RED])
    with pytest.raises(InputError, match=r"mask\.png.*black"):
        read_labels(tmp_path / "mask.png", Modality.CT)


def test_other_masks_are_read_as_pictures(tmp_path: Path) -> None:
    PillowImage.fromarray(DRAWN.astype(np.uint8) * 3).save(tmp_path / "mask.png")
    assert (read_labels(tmp_path / "mask.png", Modality.CT).pixels[0] == DRAWN * 3).all()
    (tmp_path / "cut.png").write_bytes((tmp_path / "mask.png").read_bytes()[:40])
    with pytest.raises(InputError, match="cut"):
        read_labels(tmp_path / "cut.png", Modality.CT)
