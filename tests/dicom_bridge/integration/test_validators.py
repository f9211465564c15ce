"""Programs that know the standard read our results and have nothing to object."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK
from scipy.spatial.transform import Rotation

from dicom_bridge.demo.instances import fundus_photograph
from dicom_bridge.results.filing import file_results
from dicom_bridge.results.identifiers import ResultIdentifiers
from dicom_bridge.results.kinds import ResultKind
from dicom_bridge.series.images import read_series
from rcmed.description import LONGEST_DESCRIPTION, DeterministicDescriber
from rcmed.findings import Findings, FindingStatus
from rcmed.image import Image

pytestmark = pytest.mark.integration

SAGITTAL = np.array([[0.0, 0, -1], [1, 0, 0], [0, -1, 0]])
CHECKED = (
    *("Segmentation", "Comprehensive3DSR", "SCImage", "KeyObjectSelectionDocument", "RTStructureSet"),
    "EncapsulatedPDF",
)
LONGEST = ("Every word counts. " * LONGEST_DESCRIPTION)[: LONGEST_DESCRIPTION - 1] + "."
OBLIQUE = Rotation.from_euler("zyx", (20, -35, 50), degrees=True).as_matrix()
SOURCES: dict[str, Callable[[Any, Path], object]] = {
    "axial CT": lambda sources, folder: sources.volume(folder),
    "sagittal MR": lambda sources, folder: sources.volume(folder, rotation=SAGITTAL, modality="MR"),
    "oblique MR": lambda sources, folder: sources.volume(folder, rotation=OBLIQUE, modality="MR", reverse=True),
    "enhanced MR": lambda sources, folder: sources.enhanced(folder, frames=(3, 1, 4, 2)),
    "RGB photograph": lambda sources, folder: [
        instance.save_as(folder / "fundus.dcm", enforce_file_format=True) for instance in fundus_photograph()
    ],
    "MONOCHROME1 radiograph": lambda sources, folder: sources.planar(
        folder, PhotometricInterpretation="MONOCHROME1", PixelSpacing=[0.2, 0.2]
    ),
    "ultrasound loop": lambda sources, folder: sources.frames_without_groups(folder),
}


@pytest.fixture(params=sorted(SOURCES))
def image(request: pytest.FixtureRequest, sources: Any, tmp_path: Path) -> Image:
    """An image as the bridge reads it."""
    folder = tmp_path / "source"
    folder.mkdir()
    SOURCES[request.param](sources, folder)
    reading = read_series(sorted(folder.iterdir()))
    assert reading.refusals == ()
    (image,) = reading.images
    return image


@pytest.fixture
def results(image: Image, sources: Any, tmp_path: Path) -> dict[str, Path]:
    """Results by file name, of a found, an absent, an unresolved and an uncertain target; the regions overlap."""
    first, second = np.zeros((2, *image.grid.shape), dtype=bool)
    first[:2, 1:4, 1:3] = True
    second[-2:, 2:5, 2:] = True
    kidney = sources.target("left kidney", "64033007", 1)
    described = DeterministicDescriber().describe(image, {"liver": first, "left kidney": second})
    findings: Findings = sources.findings(
        image,
        sources.found(first, description=described["liver"]),
        sources.absent("spleen"),
        sources.unresolved(),
        sources.found(second, kidney, status=FindingStatus.UNCERTAIN, presence=0.5, description=LONGEST),
    )
    filed = file_results(image, findings, ResultIdentifiers.derive("job"), tmp_path / "results", list(ResultKind))
    return {path.name: path for path in filed.files}


def test_dciodvfy_finds_no_error(results: dict[str, Path], tool: Callable[[str, str], str]) -> None:
    dciodvfy = tool("dciodvfy", "dicom3tools")
    for name in ("segmentation.dcm", "report.dcm", "capture-1.dcm", "capture-2.dcm", "key-objects.dcm", "document.dcm"):
        assert name in results
    for path in results.values():
        done = subprocess.run([dciodvfy, "-new", str(path)], capture_output=True, text=True, timeout=120)
        said = (done.stdout + done.stderr).splitlines()
        # It names the IOD that it checked against; without that it checked nothing.
        assert any(line.strip() in CHECKED for line in said), said
        assert [line for line in said if line.startswith("Error")] == []


def test_dsrdump_shows_what_was_said_of_each_target(results: dict[str, Path], tool: Callable[[str, str], str]) -> None:
    done = subprocess.run(
        [tool("dsrdump", "dcmtk"), str(results["report.dcm"])], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    told = {}
    for group in done.stdout.split('"Measurement Group"')[1:]:
        (name,) = re.findall(r'"Tracking Identifier"\)="([^"]*)"', group)
        told[name] = re.findall(r'"Presence of property"\)=\([^,]*,DCM,"([^"]*)"\)', group)
    assert told == {
        "liver": ["Present"],
        "spleen": ["Absent"],
        "flux capacitor": [],
        "left kidney": ["Presence Undetermined"],
    }


def test_dsrdump_reads_the_key_objects(results: dict[str, Path], tool: Callable[[str, str], str]) -> None:
    path = results["key-objects.dcm"]
    done = subprocess.run([tool("dsrdump", "dcmtk"), str(path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert not [line for line in done.stderr.splitlines() if line.startswith("E:")]
    assert '"Of Interest")=CONTINUOUS' in done.stdout
    assert "<contains IMAGE" in done.stdout


def test_another_program_fills_the_contours(sources: Any, tmp_path: Path, tool: Callable[[str, str], str]) -> None:
    """Plastimatch draws them into the very voxels; it knows axial slices only."""
    plastimatch = tool("plastimatch", "plastimatch")
    series = tmp_path / "source"
    series.mkdir()
    image = sources.volume(series, shape=(5, 40, 32))
    rows, columns = np.mgrid[:40, :32]
    distance = np.hypot(rows - 18, columns - 14)
    mask = np.stack([(distance < 8 + n) & (distance > 3) | (rows > 34) & (columns % 5 < 2) for n in range(5)])
    mask[0] = False
    findings = sources.findings(image, sources.found(mask))
    filed = file_results(image, findings, ResultIdentifiers.derive("job"), tmp_path, [ResultKind.RTSTRUCT])
    filled = tmp_path / "filled"
    command = [plastimatch, "convert", "--input", filed.files[0], "--referenced-ct", series, "--output-prefix", filled]
    done = subprocess.run([*map(str, command), "--prefix-format", "nrrd"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    (drawn,) = filled.iterdir()
    picture = SimpleITK.ReadImage(str(drawn))
    assert picture.GetOrigin() == pytest.approx(image.grid.affine[:3, 3], abs=1e-3)
    assert ((SimpleITK.GetArrayFromImage(picture) > 0) == mask).all()


def test_what_is_absent_has_no_segment(results: dict[str, Path]) -> None:
    segmentation = pydicom.dcmread(results["segmentation.dcm"])
    assert [segment.SegmentLabel for segment in segmentation.SegmentSequence] == ["liver", "left kidney"]
