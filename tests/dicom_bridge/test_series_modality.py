"""What an object is taken for: one of the nine modalities, with a line where the weights know only its like or none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from dicom_bridge.series.images import SeriesReading, read_series
from rcmed.modality import Modality

STORAGE = "1.2.840.10008.5.1.4.1.1."


def read(
    folder: Path, sop_class: str, term: str, wanted: Modality | None = None, colour: bool = False
) -> SeriesReading:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = sop_class
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.Modality = "1.2.3", "1.2.3.4", term
    dataset.Rows, dataset.Columns, dataset.BitsAllocated, dataset.BitsStored = 4, 6, 8, 8
    dataset.HighBit, dataset.PixelRepresentation, dataset.SamplesPerPixel = 7, 0, 3 if colour else 1
    dataset.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    dataset.PixelData = np.zeros((4, 6, 3 if colour else 1), np.uint8).tobytes()
    if colour:
        dataset.PlanarConfiguration = 0
    dataset.save_as(folder / "object.dcm", enforce_file_format=True)
    return read_series([folder / "object.dcm"], wanted)


@pytest.mark.parametrize(
    ("sop_class", "term", "named"),
    [
        (STORAGE + "77.1.5.4", "OPT", "Ophthalmic Tomography"),
        (STORAGE + "77.1.5.4", "OP", "Ophthalmic Tomography"),
        (STORAGE + "77.1.5.4", "", "Ophthalmic Tomography"),
        (STORAGE + "77.1.5.7", "OPTENF", "en face"),
        (STORAGE + "7", "OPT", "OPT"),
        (STORAGE + "81.1", "OPM", "map of the eye"),
        (STORAGE + "14.1", "OCT", "vessels"),
        (STORAGE + "3.1", "IVUS", "IVUS"),
        (STORAGE + "6.1", "BDUS", "BDUS"),
        (STORAGE + "13.1.1", "XA", "3D"),
        (STORAGE + "7", "TG", "TG"),
    ],
)
def test_in_what_the_weights_never_saw_nothing_is_looked_for_unless_the_user_decides(
    sop_class: str, term: str, named: str, tmp_path: Path
) -> None:
    (image,) = read(tmp_path, sop_class, term).images
    assert image.unlearned is not None and named in image.unlearned and "(0008,00" in image.unlearned
    (line,) = [line for line in image.warnings if "not" in line and "looked for" in line or "nothing is" in line]
    assert "object.dcm" in line and "--modality" in line
    (image,) = read(tmp_path, sop_class, term, Modality.ENDOSCOPY).images
    assert image.modality is Modality.ENDOSCOPY and image.unlearned is None and "as was asked" in image.warnings[0]


@pytest.mark.parametrize(
    ("sop_class", "term", "named"),
    [(STORAGE + "2", "MR", "CT Image Storage"), (STORAGE + "128", "CT", "Positron"), (STORAGE + "4.1", "PT", "MR")],
)
def test_a_modality_that_its_sop_class_contradicts_is_refused_unless_the_user_decides(
    sop_class: str, term: str, named: str, tmp_path: Path
) -> None:
    reading = read(tmp_path, sop_class, term)
    (refusal,) = reading.refusals
    assert not reading.images and named in str(refusal.reason) and "(0008,0060)" in str(refusal.reason)
    assert "(0008,0016)" in str(refusal.reason) and "object.dcm" in str(refusal.reason)
    (image,) = read(tmp_path, sop_class, term, Modality.MR).images
    assert image.modality is Modality.MR and "as was asked" in image.warnings[0]


@pytest.mark.parametrize(
    ("sop_class", "term", "colour", "modality", "named"),
    [
        (STORAGE + "1.2", "MG", False, Modality.X_RAY, "mammography"),
        (STORAGE + "1.3", "IO", False, Modality.X_RAY, "intra-oral"),
        (STORAGE + "1.1", "PX", False, Modality.X_RAY, "panoramic"),
        (STORAGE + "12.1", "XA", False, Modality.X_RAY, "angiography"),
        (STORAGE + "77.1.4", "XC", True, Modality.DERMOSCOPY, "external camera"),
        (STORAGE + "77.1.5.1", "OP", False, Modality.FUNDUS, "grey"),
        (STORAGE + "77.1.5.1", "", False, Modality.FUNDUS, "grey"),
        # A private class: its numbers are not those of the standard.
        ("1.2.840.113619.4.26", "", False, Modality.X_RAY, "is missing"),
        ("2.25.4", "", False, Modality.X_RAY, "is missing"),
    ],
)
def test_what_is_only_like_one_of_the_nine_is_read_and_said(
    sop_class: str, term: str, colour: bool, modality: Modality, named: str, tmp_path: Path
) -> None:
    (image,) = read(tmp_path, sop_class, term, colour=colour).images
    told = [line for line in image.warnings if "read as" in line]
    assert image.modality is modality and len(told) == 1 and named in told[0]


@pytest.mark.parametrize(
    ("sop_class", "term", "colour", "modality"),
    [
        (STORAGE + "1.1", "DX", False, Modality.X_RAY),
        (STORAGE + "6.1", "US", True, Modality.ULTRASOUND),
        (STORAGE + "77.1.2", "GM", True, Modality.PATHOLOGY),
        (STORAGE + "77.1.1", "ES", True, Modality.ENDOSCOPY),
        (STORAGE + "77.1.5.1", "OP", True, Modality.FUNDUS),
        (STORAGE + "77.1.7", "DMS", True, Modality.DERMOSCOPY),
        (STORAGE + "77.1.4", "", True, Modality.DERMOSCOPY),
        (STORAGE + "4", "MR", False, Modality.MR),
    ],
)
def test_what_the_weights_know_is_read_without_a_word(
    sop_class: str, term: str, colour: bool, modality: Modality, tmp_path: Path
) -> None:
    (image,) = read(tmp_path, sop_class, term, colour=colour).images
    assert image.modality is modality and not [line for line in image.warnings if "read as" in line]
