"""The body regions that a header tells, in words of any attribute and as codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from rcmed.image import Image
from rcmed.modality import Modality
from rcmed.readers import read_images


def read(folder: Path, modality: str = "CT", wanted: Modality | None = None, **attributes: Any) -> Image:
    """A picture of 4 x 5 pixels with these attributes, read back."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    dataset.SeriesInstanceUID, dataset.StudyInstanceUID = generate_uid(), generate_uid()
    dataset.Modality = modality
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = 4, 5, 1
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation, dataset.PhotometricInterpretation = 15, 0, "MONOCHROME2"
    dataset.PixelData = np.arange(20, dtype="<u2").tobytes()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for keyword, found in attributes.items():
        setattr(dataset, keyword, found)
    dataset.save_as(folder / "image.dcm", enforce_file_format=True)
    (image,) = read_images(folder / "image.dcm", wanted)
    return image


def code(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", meaning
    return item


@pytest.mark.parametrize(
    ("attributes", "regions"),
    [
        ({"BodyPartExamined": "HEAD"}, {"head"}),
        ({"BodyPartExamined": "CHESTABDPELVIS"}, {"chest", "abdomen", "pelvis"}),
        ({"SeriesDescription": "Schädel nativ"}, {"head"}),
        ({"ProtocolName": "5.1 ThorAbd", "BodyPartExamined": "ABDOMEN"}, {"chest", "abdomen"}),
        # The series is of the head, whatever else the study was of.
        ({"BodyPartExamined": "HEAD", "StudyDescription": "CT head, thorax and abdomen"}, {"head"}),
        # One of the two is wrong: nothing is taken away.
        ({"BodyPartExamined": "HEAD", "StudyDescription": "CT abdomen"}, {"head", "abdomen"}),
        ({"StudyDescription": "CT pelvis"}, {"pelvis"}),
        ({"AnatomicRegionSequence": [code("69536005", "頭")]}, {"head"}),
        ({"AnatomicRegionSequence": [code("1", "Liver")]}, {"abdomen"}),
        ({"BodyPartExamined": "BREAST"}, {"breast", "chest"}),
        ({"BodyPartExamined": "OTHERS", "StudyDescription": "e+1"}, None),
        ({}, None),
    ],
)
def test_what_a_header_tells(tmp_path: Path, attributes: dict[str, Any], regions: set[str] | None) -> None:
    image = read(tmp_path, SpecificCharacterSet="ISO_IR 192", **attributes)
    assert image.body_regions == regions
    assert not image.is_modality_assumed


def test_frames_tell_their_anatomy(tmp_path: Path) -> None:
    anatomy, group = Dataset(), Dataset()
    anatomy.AnatomicRegionSequence = [code("816092008", "Pelvis")]
    group.FrameAnatomySequence = [anatomy]
    assert read(tmp_path, SharedFunctionalGroupsSequence=[group]).body_regions == {"pelvis"}


def test_what_the_kind_of_image_shows_is_told_by_it(tmp_path: Path) -> None:
    assert read(tmp_path, "MG").body_regions == {"breast"}
    assert read(tmp_path, "MG", BodyPartExamined="CHEST").body_regions == {"breast"}
    assert read(tmp_path, "SM", BodyPartExamined="PROSTATE").body_regions == {"pelvis", "tissue", "cell"}
    assert read(tmp_path, "XC").body_regions is None, "a photograph may show anything"


def test_a_modality_that_nothing_tells_is_a_guess(tmp_path: Path) -> None:
    assert read(tmp_path, "OT").is_modality_assumed and read(tmp_path, "NM").is_modality_assumed
    assert not read(tmp_path, "OT", wanted=Modality.X_RAY).is_modality_assumed
