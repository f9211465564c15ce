"""A file that is cut anywhere is known, whatever its encoding; a whole one never is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from dicom_bridge.ingest.wholeness import is_cut_short
from synthetic_study import ct_slice

SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless)


def written(path: Path, syntax: str) -> bytes:
    dataset = ct_slice(0, "1.2.3", "1.2.4", "1.2.5")
    item = Dataset()
    item.CodeValue, item.CodeMeaning = "1", "one"
    dataset.ProcedureCodeSequence = [item]
    if syntax == RLELossless:
        dataset.compress(RLELossless, generate_instance_uid=False)
    elif syntax == ExplicitVRBigEndian:
        dataset["PixelData"].VR = "OW"
    dataset.file_meta.TransferSyntaxUID = syntax
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    return path.read_bytes()


@pytest.mark.parametrize("syntax", SYNTAXES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_file_that_is_cut_anywhere_is_known(tmp_path: Path, syntax: str, data: Any) -> None:
    content = written(tmp_path / "a", syntax)
    assert not is_cut_short(tmp_path / "a")
    end = data.draw(st.integers(140, len(content) - 1))
    (tmp_path / "a").write_bytes(content[:end])
    assert is_cut_short(tmp_path / "a"), end


@pytest.mark.parametrize("content", [b"", b"hello", bytes(5000), b"<html></html>" * 50])
def test_what_is_no_dicom_is_left_to_the_intake(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    assert not is_cut_short(tmp_path / "a")


def test_a_deflated_data_set_is_not_judged(tmp_path: Path) -> None:
    content = written(tmp_path / "a", DeflatedExplicitVRLittleEndian)
    (tmp_path / "a").write_bytes(content[:-100])
    assert not is_cut_short(tmp_path / "a")
