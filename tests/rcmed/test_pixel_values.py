"""Values that are no numbers become background, and a CT that can't be in HU is not told as such."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import tifffile
from numpy.typing import NDArray

from rcmed.errors import UnreadableFileError
from rcmed.image import UNKNOWN_UNIT
from rcmed.measurements import measure
from rcmed.modality import Modality
from rcmed.model.processor import to_eight_bit
from rcmed.readers import read_images
from rcmed.readers.pixel_values import hounsfield_doubt


def body(noise: float = 0.0) -> NDArray[np.float32]:
    """HU (slice, row, column): air, fat, soft tissue, a little bone."""
    rows, columns = np.mgrid[:40, :40]
    radius = np.hypot(rows - 20, columns - 20)
    plane = np.select([radius < 3, radius < 14, radius < 17], [900.0, 40.0, -100.0], -1000.0)
    values = np.repeat(plane[None], 6, axis=0)
    return (values + np.random.default_rng(0).normal(0, noise, values.shape)).astype(np.float32)


def written(path: Path, values: NDArray[Any]) -> Path:
    """Values (slice, row, column) as a file of the suffix's format."""
    if path.name.endswith(".nii.gz"):
        nib.save(nib.Nifti1Image(values.transpose(2, 1, 0), np.diag([-1.0, -1.0, 3.0, 1.0])), path)
    elif path.suffix == ".tif":
        tifffile.imwrite(path, values, photometric="minisblack")
    else:
        sitk.WriteImage(sitk.GetImageFromArray(values), str(path))
    return path


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha", ".tif"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_no_number_is_background(tmp_path: Path, suffix: str, value: float) -> None:
    values = body() + 1000
    values[0, 0, 0] = value
    (image,) = read_images(written(tmp_path / f"x{suffix}", values), Modality.MR)
    assert image.pixels[0, 0, 0] == 0 and np.array_equal(image.pixels, body() + 1000)
    (line,) = image.warnings
    assert f"x{suffix}" in line and "1 value" in line
    assert to_eight_bit(image).max() == 255


def test_nothing_but_no_numbers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match="none of its values is a number"):
        read_images(written(tmp_path / "x.nii.gz", np.full((4, 5, 6), np.nan, np.float32)), Modality.MR)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (body() + 1024, "from 24 to 1924 without a negative one"),
        (body(12.0) + 1024, "soft tissue near 1024"),
        (np.where(body() == -1000, -2000, body() + 1024), "soft tissue near 1024"),
        (np.clip((body() + 160) / 400 * 255, 0, 255).astype(np.uint8), "8-bit"),
        (np.clip((body() + 160) / 400 * 255, 0, 255).astype(np.int16), "without a negative one"),
        ((body() + 400) / 500, "as no CT in HU"),
        (body() * 100, "as no CT in HU"),
    ],
    ids=["stored", "stored and noisy", "stored and padded", "8 bits", "windowed", "normalised", "scaled"],
)
def test_a_ct_that_is_not_in_hounsfield_units_claims_none(tmp_path: Path, values: NDArray[Any], reason: str) -> None:
    if values.dtype.itemsize > 1:
        values = values.astype(np.float32)
    (image,) = read_images(written(tmp_path / "x.nii.gz", values), Modality.CT)
    (line,) = image.warnings
    assert reason in line and "x.nii.gz" in line and "no HU is measured" in line
    assert not image.claims_hounsfield and image.unit == UNKNOWN_UNIT
    mask = np.zeros(image.grid.shape, dtype=bool)
    mask[2, 18:22, 18:22] = True
    assert [each.name for each in measure(mask, image)] == ["volume"]
    shown = to_eight_bit(image)
    assert shown[0, 20, 28, 0] > shown[0, 0, 0, 0] + 50, "tissue is brighter than air, whatever the scale"


@pytest.mark.parametrize(
    "values",
    [
        body(),
        body(20.0),
        np.where(body() == -1000, -2048, body()),
        np.clip(body(20.0), -160, 240),
        body()[:, 6:34, 6:34],
    ],
    ids=["plain", "noisy", "padded", "clipped", "cropped"],
)
def test_a_ct_in_hounsfield_units_is_measured(tmp_path: Path, values: NDArray[np.float32]) -> None:
    (image,) = read_images(written(tmp_path / "x.nii.gz", np.round(values).astype(np.int16)), Modality.CT)
    assert image.claims_hounsfield and image.warnings == ()
    mask = np.abs(image.pixels - 40) < 10
    (mean,) = (each for each in measure(mask, image) if each.name == "mean attenuation")
    assert mean.value == pytest.approx(40, abs=1) and mean.unit == "[hnsf'U]"


def test_bone_alone_is_no_doubt() -> None:
    """A crop without air: cortical bone lies where stored soft tissue would, but there is more spongy bone below it."""
    bone = np.repeat(np.array([-100, 40, 60, 400, 500, 600, 900], dtype=np.int16), 100)
    assert hounsfield_doubt(bone) is None
