"""dciodvfy has nothing to object to SEG and SR of odd sources: of every case of the corpus, and with every slip."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corpus import CASES, results_of, uids_of
from dicom_bridge.results.filing import file_results
from dicom_bridge.results.identifiers import ResultIdentifiers
from dicom_bridge.series.images import read_series
from slips import SLIPS, Slip, put_stray_item, spoil

pytestmark = pytest.mark.integration

# Read, but nothing can be filed for them: no SOP Class, Modality, Study or SOP Instance UID.
NO_RESULTS = {
    *("mr-single/decimal-slope.dcm", "sc/rgb-jpeg-app14.dcm", "transfer-syntax/htj2k-lossy-rgb.dcm"),
    "transfer-syntax/jls-no-preamble-rgb.dcm",
}


def errors_of(dciodvfy: str, path: Path, uids: Collection[str] = ()) -> list[str]:
    """What dciodvfy calls an error, but for the UIDs of the source: a reference that is changed refers to nothing."""
    done = subprocess.run([dciodvfy, "-new", str(path)], capture_output=True, text=True, errors="replace", timeout=120)
    said = (done.stdout + done.stderr).splitlines()
    assert any(line.strip() in ("Segmentation", "Comprehensive3DSR") for line in said), said
    errors = [line for line in said if line.startswith("Error")]
    return [line for line in errors if not (set(re.findall(r"= <([^>]*)>", line)[:1]) & set(uids))]


@pytest.mark.skipif(not CASES, reason="no DICOM corpus at RCMED_DATA")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["path"])
def test_results_of_the_corpus(case: dict[str, Any], tool: Callable[[str, str], str], tmp_path: Path) -> None:
    dciodvfy = tool("dciodvfy", "dicom3tools")
    files = results_of(case, tmp_path)
    assert (
        files
        or case["path"] in NO_RESULTS
        or "refuse" in f"{case['expect']} {case['also_acceptable']}"
        or (case["expect"] == "not-an-image")
    )
    uids = uids_of(case) if files else set()
    assert {path.name: errors for path in files if (errors := errors_of(dciodvfy, path, uids))} == {}


@pytest.mark.parametrize("slip", [*SLIPS.values(), None], ids=[*SLIPS, "stray item"])
def test_results_of_slips(slip: Slip | None, sources: Any, tool: Callable[[str, str], str], tmp_path: Path) -> None:
    dciodvfy = tool("dciodvfy", "dicom3tools")
    folder = tmp_path / "source"
    folder.mkdir()
    sources.volume(folder)
    if slip is None:
        put_stray_item(folder)
    else:
        spoil(folder, slip)
    (image,) = read_series(sorted(folder.iterdir())).images
    mask = np.zeros(image.grid.shape, dtype=bool)
    mask[1:, 2:5, 1:4] = True
    findings = sources.findings(image, sources.found(mask), sources.absent())
    filed = file_results(image, findings, ResultIdentifiers.derive("job"), tmp_path / "results")
    assert len(filed.files) == 2
    assert [errors_of(dciodvfy, path) for path in filed.files] == [[], []]
