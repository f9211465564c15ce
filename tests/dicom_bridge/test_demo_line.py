"""The demo's line with a stub assistant: what it writes, and what it says of results that do not hold."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image as PillowImage
from rich.console import Console

from dicom_bridge.demo import line
from dicom_bridge.demo.studies import own_studies, packaged_studies


@pytest.mark.slow
def test_own_studies_go_through_the_whole_line(make_ct_series: Any, threshold_assistant: Any, tmp_path: Path) -> None:
    files = make_ct_series(4)
    studies = own_studies(files[0].parent, "liver; spleen")
    console = Console(width=140, file=io.StringIO(), record=True)
    assert line.run_line(studies, threshold_assistant, tmp_path / "demo", console) == []
    folder = tmp_path / "demo" / "study-1"
    assert sorted(path.name for path in folder.iterdir()) == [
        "findings.json",
        "overlay-liver.png",
        "report.dcm",
        "segmentation.dcm",
    ]
    assert [f["status"] for f in json.loads((folder / "findings.json").read_text())["findings"]] == ["found", "absent"]
    assert pydicom.dcmread(folder / "segmentation.dcm").StudyInstanceUID == studies[0].study_uid
    # The picture is drawn from the SEG that came back: it is coloured where the bright square is, and only there.
    picture = np.asarray(PillowImage.open(folder / "overlay-liver.png")).astype(int)
    coloured = np.ptp(picture, axis=-1) > 10
    expected = np.zeros((32, 32), dtype=bool)
    expected[8:20, 10:16] = True
    assert np.array_equal(coloured, expected)
    table = console.export_text()
    assert "found" in table and "absent" in table and "cm³" in table


@pytest.mark.slow
def test_what_does_not_hold_is_a_problem(
    make_ct_series: Any, threshold_assistant: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line, "is_report", lambda instance: False)
    monkeypatch.setattr("dicom_bridge.demo.returned.is_report", lambda instance: False)
    studies = own_studies(make_ct_series(2)[0].parent, "liver")
    problems = line.run_line(studies, threshold_assistant, tmp_path / "demo", Console(file=io.StringIO()))
    assert "study-1: no SR came back" in problems


@pytest.mark.slow
def test_packaged_studies_are_real_images_with_routes(tmp_path: Path) -> None:
    studies = packaged_studies(tmp_path)
    assert {study.name: len(study.files) for study in studies} == {
        "fundus": 1,
        "microscopy": 1,
        "abdomen": 1,
        "brain": 189,
    }
    assert all(study.route.prompts and study.route.conditions for study in studies)
    assert len({study.study_uid for study in studies}) == 4
