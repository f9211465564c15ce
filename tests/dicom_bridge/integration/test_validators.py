"""Programs that know the standard read our SEG and SR and have nothing to object."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from scipy.spatial.transform import Rotation

from dicom_bridge.demo.instances import fundus_photograph
from dicom_bridge.results import ResultIdentifiers, build_report, build_segmentation, write_result
from dicom_bridge.series.read import read_series
from rcmed.description import LONGEST_DESCRIPTION, DeterministicDescriber
from rcmed.findings import Findings, FindingStatus
from rcmed.image import Image

pytestmark = pytest.mark.integration

SAGITTAL = np.array([[0.0, 0, -1], [1, 0, 0], [0, -1, 0]])
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
    """SEG and SR of a found, an absent, an unresolved and an uncertain target; found and uncertain overlap."""
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
    identifiers = ResultIdentifiers.derive("job")
    segmentation = build_segmentation(findings, image, identifiers)
    assert segmentation is not None
    report = build_report(findings, image, segmentation, identifiers)
    return {dataset.Modality: write_result(dataset, tmp_path / "results") for dataset in (segmentation, report)}


def test_dciodvfy_finds_no_error(results: dict[str, Path], tool: Callable[[str, str], str]) -> None:
    dciodvfy = tool("dciodvfy", "dicom3tools")
    for path in results.values():
        done = subprocess.run([dciodvfy, "-new", str(path)], capture_output=True, text=True, timeout=120)
        said = (done.stdout + done.stderr).splitlines()
        # It names the IOD that it checked against; without that it checked nothing.
        assert any(line.strip() in ("Segmentation", "Comprehensive3DSR") for line in said), said
        assert [line for line in said if line.startswith("Error")] == []


def test_dsrdump_shows_what_was_said_of_each_target(results: dict[str, Path], tool: Callable[[str, str], str]) -> None:
    done = subprocess.run([tool("dsrdump", "dcmtk"), str(results["SR"])], capture_output=True, text=True, timeout=120)
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


def test_what_is_absent_has_no_segment(results: dict[str, Path]) -> None:
    segmentation = pydicom.dcmread(results["SEG"])
    assert [segment.SegmentLabel for segment in segmentation.SegmentSequence] == ["liver", "left kidney"]
