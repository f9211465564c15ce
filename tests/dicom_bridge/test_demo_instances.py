from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicom_bridge.demo import instances

MAKERS = [
    instances.fundus_photograph,
    instances.microscopic_image,
    instances.abdominal_slice,
    instances.brain_series,
]


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_the_same_instance_has_the_same_uids_in_every_run(make: Callable[[], list[Dataset]]) -> None:
    first, second = make(), make()
    uids = [one.SOPInstanceUID for one in first]
    assert uids == [one.SOPInstanceUID for one in second]
    assert len(set(uids)) == len(uids)
    assert len({one.SeriesInstanceUID for one in first}) == 1


def test_the_brain_lies_in_patient_coordinates() -> None:
    series = instances.brain_series()
    assert len(series) == 189
    assert {(one.Rows, one.Columns) for one in series} == {(233, 197)}
    heights = [float(one.ImagePositionPatient[2]) for one in series]
    assert heights == [-72.0 + number for number in range(189)]
    # The brain is widest and longest through the origin (anterior commissure): the head is symmetric about x = 0, its
    # front end (the frontal pole) lies 70 mm before the commissure, its back end about 105 mm behind it.
    middle = series[80]
    head = middle.pixel_array > 60
    columns = np.flatnonzero(head.any(axis=0)) + float(middle.ImagePositionPatient[0])
    rows = np.flatnonzero(head.any(axis=1)) + float(middle.ImagePositionPatient[1])
    assert abs(columns[0] + columns[-1]) <= 2
    assert -75 < rows[0] < -65
    assert 95 < rows[-1] < 110


def test_photographs_keep_their_colours() -> None:
    fundus = instances.fundus_photograph()[0]
    assert fundus.pixel_array.shape == (1411, 1411, 3)
    red, green, blue = fundus.pixel_array[600:800, 600:800].reshape(-1, 3).mean(axis=0)
    assert red > 2 * green > 2 * blue
    assert fundus.LossyImageCompression == "01"
    assert instances.microscopic_image()[0].pixel_array.shape == (512, 512, 3)


@pytest.mark.integration
@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_dciodvfy_finds_no_error(make: Callable[[], list[Dataset]], tmp_path: Path) -> None:
    validator = shutil.which("dciodvfy")
    if validator is None:
        pytest.skip("dciodvfy is not installed (Debian package dicom3tools)")
    path = tmp_path / "instance.dcm"
    make()[0].save_as(path, enforce_file_format=True)
    said = subprocess.run([validator, "-new", str(path)], capture_output=True, text=True, check=False)
    assert [line for line in (said.stdout + said.stderr).splitlines() if line.startswith("Error")] == []
