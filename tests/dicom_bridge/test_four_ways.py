"""File, folder, C-STORE and STOW: whichever way an input comes, the same is found in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless, generate_uid

from corpus import CASES, DATA
from four_ways import Recording, found_by_file, found_by_gateway, found_in_folder
from rcmed import Assistant
from synthetic_study import ct_slice

# A file each, none with an instance of another: CT, MR and screens in several encodings, a radiograph, enhanced
# volumes, ultrasound and PET.
FILES = (
    "ct-single/ct-small.dcm",
    "ct-single/ct-signed-12in16.dcm",
    "transfer-syntax/ct-rle.dcm",
    "transfer-syntax/deflated-sc.dcm",
    "transfer-syntax/mr-small-bigendian.dcm",
    "cr-dx/dx-mono1-small.dcm",
    "enhanced/ect-2frames.dcm",
    "enhanced/hyperfine.dcm",
    "us/ybr-full-rle.dcm",
    "pet-nm/pet-bqml-suv.dcm",
)
SERIES = ("ct-series/philips-head-10", "mr-series/rle-sagittal")


def require_the_same(assistant: Recording, inputs: dict[str, list[Path]], folder: Path, prompts: list[str]) -> None:
    """Ask every input in each way that it has; a series of several files is none by file."""
    by_c_store = found_by_gateway(assistant, list(inputs.values()), folder / "c-store", prompts, by_stow=False)
    by_stow = found_by_gateway(assistant, list(inputs.values()), folder / "stow", prompts, by_stow=True)
    for (name, files), stored, posted in zip(inputs.items(), by_c_store, by_stow, strict=True):
        in_folder = found_in_folder(assistant, files, folder / "files" / name, prompts)
        assert in_folder and all(answer[-1] for answer in in_folder), name
        assert stored == in_folder, f"{name}: by C-STORE another answer than in a folder"
        assert posted == in_folder, f"{name}: by STOW another answer than in a folder"
        if len(files) == 1:
            assert found_by_file(assistant, files[0], prompts) == in_folder, f"{name}: as a file another answer"


@pytest.mark.slow
def test_made_inputs(tmp_path: Path, make_ct_series: Any, threshold_assistant: Any) -> None:
    inputs = {"series": list(make_ct_series(4))}
    for syntax in (None, RLELossless, DeflatedExplicitVRLittleEndian):
        dataset = ct_slice(0, generate_uid(), generate_uid(), generate_uid())
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        if syntax == RLELossless:
            dataset.compress(RLELossless)
        elif syntax is not None:
            dataset.file_meta.TransferSyntaxUID = syntax
        name = "plain" if syntax is None else pydicom.uid.UID(syntax).keyword
        path = tmp_path / f"{name}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        inputs[name] = [path]
    assistant = Recording(threshold_assistant)
    require_the_same(assistant, inputs, tmp_path, ["liver", "spleen"])


@pytest.mark.skipif(not CASES, reason="no DICOM corpus at RCMED_DATA")
@pytest.mark.slow
def test_ten_cases_and_two_series_of_the_corpus(tmp_path: Path) -> None:
    inputs = {name: [DATA / name] for name in FILES}
    inputs |= {name: sorted(file for file in (DATA / name).iterdir() if file.is_file()) for name in SERIES}
    assistant = Recording(Assistant.from_pretrained("small", "cpu"))
    require_the_same(assistant, inputs, tmp_path, ["liver", "brain", "lung; kidney"])
