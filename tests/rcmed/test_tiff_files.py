"""TIFF is read as it is shown: by its photometric interpretation, without taking thumbnails or channels for slices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image as PillowImage

from rcmed.errors import UnreadableFileError
from rcmed.image import Image
from rcmed.modality import Modality
from rcmed.readers import read_images

IN_FOLDER = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
RED, GREEN = (200, 30, 10), (10, 180, 90)


def read(path: Path) -> Image:
    (image,) = read_images(path, Modality.DERMOSCOPY)
    return image


def two_colours() -> np.ndarray:
    picture = np.full((6, 9, 3), RED, np.uint8)
    picture[:, 5:] = GREEN
    return picture


def deviation(image: Image) -> int:
    return int(np.abs(image.pixels[0].astype(int) - two_colours()).max())


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "RGB", "RGBA", "P"])
def test_colours_come_out_as_they_are_shown(mode: str, compression: str | None, tmp_path: Path) -> None:
    picture = PillowImage.fromarray(two_colours())
    picture = picture.convert(mode, palette=PillowImage.Palette.ADAPTIVE) if mode == "P" else picture.convert(mode)
    picture.save(tmp_path / "a.tif", compression=compression)
    assert deviation(read(tmp_path / "a.tif")) <= 3


def test_cmyk_of_sixteen_bits_and_pages(tmp_path: Path) -> None:
    cmyk = np.asarray(PillowImage.fromarray(two_colours()).convert("CMYK")).astype(np.uint16) * 257
    tifffile.imwrite(tmp_path / "a.tif", np.stack([cmyk, cmyk]), photometric="separated")
    image = read(tmp_path / "a.tif")
    assert image.grid.shape == (2, 6, 9) and deviation(image) <= 2


def test_inks_and_colour_spaces_that_nothing_here_knows_are_refused(tmp_path: Path) -> None:
    inks = np.zeros((6, 9, 4), np.uint8)
    tifffile.imwrite(tmp_path / "inks.tif", inks, photometric="separated", extratags=[(332, "H", 1, 2, True)])
    tifffile.imwrite(tmp_path / "lab.tif", inks[..., :3], photometric="cielab")
    tifffile.imwrite(tmp_path / "raw.tif", inks[..., 0], photometric="cfa")
    for name, told in (("inks.tif", "SEPARATED"), ("lab.tif", "CIELAB"), ("raw.tif", "CFA")):
        with pytest.raises(UnreadableFileError, match=f"{name}.*{told}"):
            read(tmp_path / name)


@IN_FOLDER
@given(
    stored=arrays.arrays(
        st.sampled_from([np.bool_, np.uint8, np.uint16, np.uint32, np.int8, np.int16]),
        arrays.array_shapes(min_dims=2, max_dims=2),
    )
)
def test_white_is_zero_is_turned_round(tmp_path: Path, stored: np.ndarray) -> None:
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="miniswhite")
    shown = read(tmp_path / "a.tif").pixels[0].astype(np.int64)
    if stored.dtype == np.bool_:
        assert (shown == np.where(stored, 0, 255)).all()
        return
    limits = np.iinfo(stored.dtype)
    assert (shown == int(limits.max) + int(limits.min) - stored.astype(np.int64)).all()


def test_white_is_zero_when_compressed_and_when_of_floats(tmp_path: Path) -> None:
    stored = np.array([[0, 1000], [65535, 40000]], np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="miniswhite", compression="zlib")
    assert (read(tmp_path / "a.tif").pixels[0] == 65535 - stored).all()
    tifffile.imwrite(tmp_path / "b.tif", stored.astype(np.float32), photometric="miniswhite")
    with pytest.raises(UnreadableFileError, match=r"b\.tif.*WhiteIsZero"):
        read(tmp_path / "b.tif")


@pytest.mark.parametrize(("bits", "highest"), [(8, 255), (10, 1023), (12, 4095), (16, 65535)])
def test_fewer_bits_in_sixteen(bits: int, highest: int, tmp_path: Path) -> None:
    stored = np.zeros((4, 5, 3), np.uint16)
    stored[0, 0], stored[1, 1] = (highest, highest // 2, 0), (0, 0, highest)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb")
    image = read(tmp_path / "a.tif")
    assert image.pixels[0, 0, 0].tolist() in ([255, 127, 0], [255, 128, 0]) and image.pixels[0, 1, 1, 2] == 255
    assert [f"read as {bits} bits" in line for line in image.warnings] == ([] if bits == 16 else [True])


def test_twelve_bits_in_sixteen_of_a_png(tmp_path: Path) -> None:
    import SimpleITK as sitk  # noqa: N813

    stored = np.zeros((4, 5, 3), np.uint16)
    stored[0, 0] = (4095, 2048, 0)
    sitk.WriteImage(sitk.GetImageFromArray(stored, isVector=True), str(tmp_path / "a.png"))
    image = read(tmp_path / "a.png")
    assert image.pixels[0, 0, 0].tolist() == [255, 128, 0] and "read as 12 bits" in image.warnings[0]


def test_thumbnails_are_named_and_not_taken_for_the_picture(tmp_path: Path) -> None:
    whole, small = np.full((64, 48), 7, np.uint8), np.full((16, 12), 9, np.uint8)
    for name, pages in (("first.tif", (small, whole)), ("last.tif", (whole, small))):
        with tifffile.TiffWriter(tmp_path / name) as writer:
            for page in pages:
                writer.write(page, subfiletype=1 if page is small else 0, metadata=None)
        image = read(tmp_path / name)
        assert image.grid.shape == (1, 64, 48) and (image.pixels == 7).all()
        assert len(image.warnings) == 1 and "16 x 12" in image.warnings[0] and name in image.warnings[0]


def test_a_smaller_picture_that_is_not_marked_is_named_too(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for side in (20, 80, 40):
            writer.write(np.full((side, side), side, np.uint8), metadata=None)
    image = read(tmp_path / "a.tif")
    assert (image.pixels == 80).all() and "of 3 pictures" in image.warnings[0]
    assert "20 x 20" in image.warnings[0] and "40 x 40" in image.warnings[0]


@pytest.mark.parametrize("form", ["imagej", "ome"])
def test_channels_are_no_slices(form: str, tmp_path: Path) -> None:
    stored = np.stack([np.full((3, 8, 9), value, np.uint8) for value in (10, 100, 200)], axis=1)
    name = "a.ome.tif" if form == "ome" else "a.tif"
    tifffile.imwrite(
        tmp_path / name, stored, imagej=form == "imagej", metadata={"axes": "ZCYX"}, photometric="minisblack"
    )
    image = read(tmp_path / name)
    assert image.grid.shape == (3, 8, 9) and (image.pixels == 10).all()
    assert len(image.warnings) == 1 and "3 channels" in image.warnings[0]


def test_grey_samples_are_no_colours(tmp_path: Path) -> None:
    stored = np.full((8, 9, 3), (10, 100, 200), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="minisblack", planarconfig="contig")
    image = read(tmp_path / "a.tif")
    assert not image.is_colour and (image.pixels == 10).all() and "3 grey samples" in image.warnings[0]


def test_pages_of_a_codec_that_only_pillow_has(tmp_path: Path) -> None:
    pages = [PillowImage.fromarray(np.full((6, 9), value, np.uint8)) for value in (10, 100, 200)]
    pages[0].save(tmp_path / "a.tif", compression="tiff_lzw", save_all=True, append_images=pages[1:])
    assert read(tmp_path / "a.tif").pixels[:, 0, 0].tolist() == [10, 100, 200]
