"""Real and odd DICOM files: each comes out as its index says, with the geometry and the pixels that it says."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dicom_bridge.series.dicom_reader import read_dicom
from rcmed.errors import InputError
from rcmed.image import Image
from rcmed.modality import Modality

DATA = Path(os.environ.get("RCMED_DATA", Path(__file__).parents[3] / "shared" / "data")) / "dicom"
INDEX = DATA / "index.json"
CASES: list[dict[str, Any]] = json.loads(INDEX.read_text()) if INDEX.exists() else []
pytestmark = pytest.mark.skipif(not CASES, reason="no DICOM corpus at RCMED_DATA")


def outcome(case: dict[str, Any]) -> tuple[str, list[Image]]:
    try:
        images = read_dicom(DATA / case["path"])
    except InputError as error:
        assert "\n" not in str(error) and len(str(error)) < 600
        return "refuse", []
    return ("volume" if any(image.is_volume for image in images) else "image"), images


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["path"])
def test_case_comes_out_as_expected(case: dict[str, Any]) -> None:
    got, images = outcome(case)
    accepted = f"{case['expect']} {case['also_acceptable'] or ''}".replace("not-an-image", "refuse")
    # A regular stack of frames in one file is an image as well (docs/dicom-corpus.md).
    assert got in accepted or (got == "volume" and "image" in accepted and len(case["files"]) == 1), (got, accepted)
    for image in images:
        if image.sources:
            assert len(image.sources) == image.grid.shape[0]
            uids = {file["sop_uid"] for file in case["files"]}
            assert {source.sop_instance_uid for source in image.sources} <= uids | {""}


GEOMETRIES = [case for case in CASES if case.get("geometry") and "volume" == case["expect"]]


@pytest.mark.parametrize("case", GEOMETRIES, ids=lambda case: case["path"])
def test_volume_geometry(case: dict[str, Any]) -> None:
    (image,) = outcome(case)[1]
    stated = case["geometry"]
    columns, rows, slices = stated["shape_ijk"]
    assert image.grid.shape == (slices, rows, columns)
    assert np.allclose(image.grid.spacing[::-1], stated["spacing_ijk"], rtol=2e-3)
    assert np.allclose(image.grid.affine[:3, 3], stated["origin_lps"], atol=1e-3)
    directions = (image.grid.affine[:3, :3] / image.grid.spacing).T[::-1]
    assert np.allclose(directions, np.reshape(stated["direction_lps"], (3, 3)), atol=3e-3)
    assert image.grid.in_patient_coordinates


SINGLES = [
    case
    for case in CASES
    if case.get("geometry") and case["expect"] == "image" and not case["geometry"]["increments_mm"]
]


@pytest.mark.parametrize("case", SINGLES, ids=lambda case: case["path"])
def test_slice_geometry(case: dict[str, Any]) -> None:
    (image,) = outcome(case)[1]
    stated = case["geometry"]
    assert np.allclose(image.grid.spacing[1:], stated["row_col_spacing"], rtol=1e-4)
    assert np.allclose(image.grid.affine[:3, 3], stated["origin_lps"], atol=1e-3)
    directions = (image.grid.affine[:3, :3] / image.grid.spacing).T[::-1]
    assert np.allclose(directions, np.reshape(stated["direction_lps"], (3, 3)), atol=1e-3)


PIXELS = [
    case
    for case in CASES
    if case["expect"] == "image"
    and len(case["files"]) == 1
    and "pixels" in case["files"][0]
    and str(case["photometric"]).startswith("MONOCHROME2")
    and case["modality"] not in ("SM", "MR")
]


# By hand: weight in g / (dose in Bq x 2^(-seconds from injection to series / half life in s)).
SUV_FACTORS = {
    "pet-nm/pet-bqml-suv.dcm": 69734.4 / (178340011.59668 * 2 ** (-3976.921 / 6586.2)),
    "pet-nm/pet-jpegll-suv.dcm": 90000.0 / (474592928.0 * 2 ** (-5316.0 / 6588.0)),
}


@pytest.mark.parametrize("case", PIXELS, ids=lambda case: case["path"])
def test_pixel_values(case: dict[str, Any]) -> None:
    (image,) = outcome(case)[1]
    stated = case["files"][0]["pixels"]
    if image.grid.shape[0] > 1 and "rescale_slope" not in case:
        pytest.skip("rescale stands in functional groups")
    slope, intercept = case.get("rescale_slope", 1.0) or 1.0, case.get("rescale_intercept", 0.0) or 0.0
    for found, stored in ((image.pixels.min(), stated["min"]), (image.pixels.max(), stated["max"])):
        expected = stored * slope + intercept
        if case["path"] == "ct-single/ct-signed-12in16.dcm" and found < 0:
            expected = -1024.0  # the least value is the padding, which becomes air
        expected *= SUV_FACTORS.get(case["path"], 1.0)
        assert float(found) == pytest.approx(expected, rel=1e-4, abs=0.01)


@pytest.mark.parametrize(
    "case", [c for c in CASES if "transfer-syntax/ct-" in c["path"]], ids=lambda case: case["path"]
)
def test_transfer_syntaxes_agree(case: dict[str, Any]) -> None:
    images = outcome(case)[1]
    if case["expect"] == "refuse":
        return
    reference = read_dicom(DATA / "transfer-syntax" / "ct-explicit-le.dcm")[0].pixels.astype(float)
    difference = np.abs(images[0].pixels.astype(float) - reference)
    lossy = any(word in case["path"] for word in ("baseline", "extended", "lossy"))
    # 8 bits hold steps of 32 HU, and JPEG rounds beside that.
    assert difference.mean() <= (20 if "baseline" in case["path"] else 4) if lossy else difference.max() == 0


@pytest.mark.parametrize(
    ("path", "modality"),
    [
        ("us/rgb-planar.dcm", Modality.ULTRASOUND),
        ("visible-light/op-heidelberg.dcm", Modality.FUNDUS),
        ("visible-light/xc-with-icon.dcm", Modality.DERMOSCOPY),
        ("sm/sm-tiled-rgb.dcm", Modality.PATHOLOGY),
        ("cr-dx/cr-mono1-chest.dcm", Modality.X_RAY),
        ("pet-nm/pet-bqml-suv.dcm", Modality.PET),
    ],
)
def test_modality(path: str, modality: Modality) -> None:
    assert read_dicom(DATA / path)[0].modality is modality


def test_inverted_and_untrusted() -> None:
    import pydicom

    stored = pydicom.dcmread(DATA / "cr-dx" / "cr-mono1-chest.dcm").pixel_array
    pixels = read_dicom(DATA / "cr-dx" / "cr-mono1-chest.dcm")[0].pixels[0]
    assert (pixels.astype(int) == 1023 - stored.astype(int)).all()
    three = read_dicom(DATA / "ct-single" / "ct-mono2-8-abdo-3-spacings.dcm")[0]
    assert not three.grid.in_millimetres and "PixelSpacing" in three.warnings[0]
    unknown = read_dicom(DATA / "sc" / "voi-lut.dcm", Modality.ULTRASOUND)[0]
    assert unknown.modality is Modality.ULTRASOUND and unknown.warnings == ()


def test_slide_tiles_are_put_together() -> None:
    import highdicom

    stored = highdicom.imread(DATA / "sm" / "sm-tiled-rgb.dcm").get_total_pixel_matrix()
    image = read_dicom(DATA / "sm" / "sm-tiled-rgb.dcm")[0]
    assert (image.pixels[0] == stored).all()
    assert len(image.sources) == 1 and image.sources[0].frame_number is None


def test_rle_and_jpeg_2000_hold_the_same_volume() -> None:
    first, second = (read_dicom(DATA / "mr-series" / name)[0] for name in ("j2k-sagittal", "rle-sagittal"))
    assert (first.pixels == second.pixels).all() and first.grid.matches(second.grid)


def test_reader_is_registered_and_bad_neighbours_do_not_stop_it(tmp_path: Path) -> None:
    for file in (DATA / "ct-series" / "dcmqi-3slice").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "notes.txt").write_text("not DICOM")
    (tmp_path / "cut.dcm").write_bytes((DATA / "broken" / "truncated-pixels.dcm").read_bytes())
    (image,) = read_dicom(tmp_path)
    assert image.is_volume
    assert len([line for line in image.warnings if line.startswith("left out")]) == 1
