"""`rcmed annotate` as a user starts it, in a network namespace without a way out, asked by MONAI Label's own client."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from rcmed import Assistant
from rcmed.modality import Modality
from rcmed.readers import read_images

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]
ALONE = ["unshare", "--user", "--map-root-user", "--net"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Studies: scikit-image's fundus photograph, and an oblique MR volume of noise."""
    folder = tmp_path_factory.mktemp("annotate")
    (folder / "studies").mkdir()
    (folder / "state").mkdir()
    spec = find_spec("skimage")
    assert spec is not None and spec.origin is not None
    shutil.copy(Path(spec.origin).parent / "data" / "retina.jpg", folder / "studies" / "fundus--retina.jpg")
    voxels = np.random.default_rng(0).integers(0, 800, (6, 48, 40)).astype(np.int16)
    volume = sitk.GetImageFromArray(voxels)
    volume.SetSpacing((0.9, 1.1, 4.0))
    volume.SetOrigin((-20.0, 35.0, -70.0))
    turn = np.deg2rad(15)
    volume.SetDirection((np.cos(turn), -np.sin(turn), 0.0, np.sin(turn), np.cos(turn), 0.0, 0.0, 0.0, 1.0))
    sitk.WriteImage(volume, str(folder / "studies" / "mr--head.nrrd"))
    return folder


@pytest.fixture(scope="module")
def told(folder: Path) -> dict[str, Any]:
    if shutil.which("unshare") is None or subprocess.run([*ALONE, "true"], capture_output=True).returncode != 0:
        pytest.skip("this machine lets nobody make a network namespace")
    script = Path(__file__).with_name("cut_off.py")
    rcmed = Path(sys.executable).with_name("rcmed")
    command = [*ALONE, sys.executable, str(script), str(rcmed), str(folder / "studies"), str(folder / "state")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stderr[-3000:]
    content: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return content


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, np.ndarray]:
    """What `rcmed find` says of the photograph."""
    (image,) = read_images(folder / "studies" / "fundus--retina.jpg", Modality.FUNDUS)
    findings = Assistant.from_pretrained("small", "cpu").find(image, "optic disc; retinal vessel").findings
    return {f.target.name: f.mask for f in findings if f.target is not None and f.mask is not None}


def test_it_starts_and_ends_with_the_network_cut_off(told: dict[str, Any]) -> None:
    """Stock downloads at its start with a DICOMweb store; here nothing is fetched with any."""
    assert told["is_cut_off"] is True
    assert told["models"] == ["rcmed", "rcmed_2d", "rcmed_edit", "rcmed_vista"]
    assert told["ohif"].startswith("OHIF: http://127.0.0.1:") and told["ohif"].endswith("/ohif/")
    assert told["status"] == 0 and "stopping" in told["rest"]


def test_slicers_client_gets_what_rcmed_find_finds(told: dict[str, Any], folder: Path, found: dict[str, Any]) -> None:
    assert told["first"]["label_names"] == {"optic disc": 1, "retinal vessel": 2}
    mask = sitk.ReadImage(str(folder / "state" / "first.nrrd"))
    source = sitk.ReadImage(str(folder / "studies" / "fundus--retina.jpg"))
    assert mask.GetSize() == (*source.GetSize(), 1) and mask.GetPixelID() == sitk.sitkUInt8
    values = sitk.GetArrayFromImage(mask)
    disc, vessel = found["optic disc"], found["retinal vessel"]
    # The disc is the smaller one, and is seen where vessels cross it.
    assert np.array_equal(values == 1, disc)
    assert np.array_equal(values == 2, vessel & ~disc)


def test_a_second_prompt_gives_the_same(told: dict[str, Any], folder: Path) -> None:
    first, second = (
        sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "state" / f"{n}.nrrd"))) for n in ("first", "second")
    )
    assert np.array_equal(first, second)


def test_ohifs_exact_request(told: dict[str, Any], folder: Path, found: dict[str, Any]) -> None:
    values = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "state" / "ohif.nrrd")))
    assert np.array_equal(values == 1, found["optic disc"])
    assert set(np.unique(values)) == {0, 1}


def test_a_volume_comes_back_on_its_own_grid(told: dict[str, Any], folder: Path) -> None:
    assert list(told["volume"]["label_names"].items()) == [("brain tumor", 1), ("liver", 2)]
    mask = sitk.ReadImage(str(folder / "state" / "volume.nrrd"))
    source = sitk.ReadImage(str(folder / "studies" / "mr--head.nrrd"))
    assert mask.GetSize() == source.GetSize()
    for corner in ((0, 0, 0), (39, 47, 5)):
        np.testing.assert_allclose(
            mask.TransformIndexToPhysicalPoint(corner), source.TransformIndexToPhysicalPoint(corner), atol=1e-4
        )
    assert set(np.unique(sitk.GetArrayFromImage(mask))) <= {0, 1, 2}
