"""Slices whose headers are unlike the first one's neither spoil a result nor are lost from it."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from dicom_bridge.results.identifiers import ResultIdentifiers
from dicom_bridge.results.kinds import KEY_OBJECTS_FILE, REPORT_FILE, SEGMENTATION_FILE, ResultKind
from dicom_bridge.results.objects import build_objects
from dicom_bridge.results.sources.source import KnownSources
from dicom_bridge.series.images import read_series
from rcmed.errors import InputError, UnreadableFileError
from rcmed.image import Image

IDENTIFIERS = ResultIdentifiers.derive("job", created=datetime(2024, 5, 6, 7, 8, 9))
SHOWN = 2


def make_odd(dataset: Dataset) -> None:
    """What scanners and archives write, and no result may hold."""
    dataset.StudyTime = "11:25:01"
    dataset.PatientBirthDate = "1970.01.01"
    dataset.PatientSex = "W"
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.PatientName = "M\xfcller^J\xf6rg"
    dataset.LossyImageCompression = "01"
    dataset.BurnedInAnnotation = "YES"
    for keyword in ("AccessionNumber", "StudyID", "ReferringPhysicianName"):
        delattr(dataset, keyword)


def rewrite(path: Path, change: Callable[[Dataset], None]) -> None:
    dataset = pydicom.dcmread(path)
    with pydicom.config.disable_value_validation():
        change(dataset)
        dataset.save_as(path, enforce_file_format=True)


def results(image: Image, sources: Any, headers: Mapping[Path, Dataset] | None = None) -> dict[str, bytes]:
    mask = np.zeros(image.grid.shape, dtype=bool)
    mask[SHOWN, 2:5, 1:4] = True
    mask[SHOWN + 1, 3, 2] = True
    findings = sources.findings(image, sources.found(mask), sources.absent("spleen"), sources.unresolved())
    return dict(build_objects(image, findings, IDENTIFIERS, list(ResultKind), known=KnownSources(headers)).files())


def test_odd_slices_behind_the_first_change_neither_segmentation_nor_report(sources: Any, tmp_path: Path) -> None:
    image = sources.volume(tmp_path)
    plain = results(image, sources)
    for reference in image.sources[1:]:
        rewrite(reference.path, make_odd)
    odd = results(image, sources)
    for name in (SEGMENTATION_FILE, REPORT_FILE):
        assert odd[name] == plain[name]
    everything = [reference.sop_instance_uid for reference in image.sources]
    report = pydicom.dcmread(io.BytesIO(odd[REPORT_FILE]))
    listed = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert [item.ReferencedSOPInstanceUID for item in listed] == everything


def test_headers_kept_from_the_reading_give_the_same_results(sources: Any, tmp_path: Path) -> None:
    written = sources.volume(tmp_path)
    for reference in written.sources[1:]:
        rewrite(reference.path, make_odd)
    reading = read_series(written.files)
    (image,) = reading.images
    assert set(reading.headers) == set(image.files)
    again = results(image, sources)
    assert set(again) > {SEGMENTATION_FILE, REPORT_FILE, KEY_OBJECTS_FILE}
    assert results(image, sources, reading.headers) == again


def test_a_picture_says_what_its_own_slice_says(sources: Any, tmp_path: Path) -> None:
    image = sources.volume(tmp_path)
    rewrite(image.sources[SHOWN].path, make_odd)
    made = results(image, sources)
    picture = pydicom.dcmread(io.BytesIO(made["capture-1.dcm"]))
    assert picture.SourceImageSequence[0].ReferencedSOPInstanceUID == image.sources[SHOWN].sop_instance_uid
    assert (picture.BurnedInAnnotation, picture.LossyImageCompression) == ("YES", "01")
    assert float(picture.LossyImageCompressionRatio) >= 1
    assert str(picture.PatientName) == "M\xfcller^J\xf6rg"
    assert (picture.StudyTime, picture.PatientSex, picture.AccessionNumber) == ("112501", "", "")
    selection = pydicom.dcmread(io.BytesIO(made[KEY_OBJECTS_FILE]))
    referred = [
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in selection.ContentSequence
        if item.ValueType == "IMAGE"
    ]
    assert referred == [image.sources[number].sop_instance_uid for number in (SHOWN, SHOWN + 1)]


@pytest.mark.parametrize("keyword", ["SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality"])
def test_a_slice_that_cannot_be_filed_is_named(sources: Any, tmp_path: Path, keyword: str) -> None:
    image = sources.volume(tmp_path)
    last = image.sources[-1].path
    rewrite(last, lambda dataset: delattr(dataset, keyword))
    with pytest.raises(InputError, match=rf"{last.name}: no {keyword} \([0-9A-F]{{4}},"):
        results(image, sources)


def test_a_slice_that_was_replaced_is_named(sources: Any, tmp_path: Path) -> None:
    image = sources.volume(tmp_path)
    image.sources[-1].path.write_bytes(image.sources[0].path.read_bytes())
    with pytest.raises(UnreadableFileError, match=f"{image.sources[-1].path.name}: SOPInstanceUID"):
        results(image, sources)
