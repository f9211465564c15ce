"""The log as a collector reads it: one JSON object a line, UIDs as fields, no values of data sets."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pydicom
import pytest

SCRIPT = """
import logging, pathlib, sys, warnings
import pydicom
from dicom_bridge.logs import set_up_logging
from dicom_bridge.settings import LogSettings
from dicom_bridge.store.database import Database
from dicom_bridge.store.index import StudyIndex

set_up_logging(LogSettings(format=sys.argv[1]))
index = StudyIndex(Database(pathlib.Path(sys.argv[3]) / "index.sqlite"))
index.add_line("no route matches", level="info", study_uid="1.2", series_uid="1.2.3")
logging.getLogger("pydicom").error("DOE^JANE")
logging.getLogger("pynetdicom.acse").error("DOE^JANE")
warnings.warn("DOE^JANE")
dataset = pydicom.dcmread(sys.argv[2])
dataset.StudyDate = "DOE^JANE"
try:
    try:
        raise ValueError(str(dataset.PatientName))
    except ValueError as error:
        raise RuntimeError(f"about {dataset.PatientName}") from error
except RuntimeError:
    logging.getLogger("dicom_bridge.jobs").exception("job %s failed", "ab12")
"""


def said(form: str, file: Path, folder: Path) -> list[str]:
    command = [sys.executable, "-c", SCRIPT, form, str(file), str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stderr.splitlines()


@pytest.mark.slow
def test_the_log_holds_uids_and_no_values_of_data_sets(make_ct_series: Any, tmp_path: Path) -> None:
    (file,) = make_ct_series(1)
    dataset = pydicom.dcmread(file)
    dataset.PatientName = "DOE^JANE"
    dataset.save_as(file)
    line, failure = (json.loads(text) for text in said("json", file, tmp_path))
    assert (line["level"], line["study_uid"], line["series_uid"]) == ("INFO", "1.2", "1.2.3")
    assert "job_id" not in line and "no route matches" in line["message"] and line["time"]
    assert failure["message"] == "job ab12 failed"
    assert failure["exception"].startswith("RuntimeError at <string>:") and "ValueError" in failure["exception"]
    text = said("text", file, tmp_path)
    assert "DOE" not in "".join([str(line), str(failure), *text])
    assert any("study 1.2, series 1.2.3: no route matches" in one for one in text)
