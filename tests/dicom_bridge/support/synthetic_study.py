"""A synthetic CT study and an assistant that finds its bright square, for the tests of the gateway."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from rcmed.codes import Code
from rcmed.findings import Finding, Findings, FindingStatus, ModelIdentity
from rcmed.hints import Hint
from rcmed.image import Image
from rcmed.measurements import find_boxes, measure
from rcmed.modality import Modality
from rcmed.vocabulary.table import Target


def ct_slice(number: int, study_uid: str, series_uid: str, frame_of_reference_uid: str) -> Dataset:
    """A 32x32 CT slice at z = 2.5 * number mm with a bright square in it."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=[series_uid, str(number)])
    dataset.StudyInstanceUID = study_uid
    dataset.SeriesInstanceUID = series_uid
    dataset.FrameOfReferenceUID = frame_of_reference_uid
    dataset.PatientName = "SYNTHETIC^SQUARE"
    dataset.PatientID = "SYN-1"
    dataset.PatientBirthDate = ""
    dataset.PatientSex = "O"
    dataset.StudyDate = "20240102"
    dataset.StudyTime = "101112"
    dataset.StudyID = "1"
    dataset.AccessionNumber = "A1"
    dataset.ReferringPhysicianName = ""
    dataset.StudyDescription = "Synthetic abdomen"
    dataset.SeriesDescription = "Square 2.5"
    dataset.SeriesNumber = 1
    dataset.BodyPartExamined = "ABDOMEN"
    dataset.Modality = "CT"
    dataset.Manufacturer = "Synthetic"
    dataset.PositionReferenceIndicator = ""
    dataset.PatientPosition = "HFS"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.InstanceNumber = number + 1
    dataset.AcquisitionNumber = 1
    dataset.KVP = 120
    dataset.PixelSpacing = [1.5, 1.5]
    dataset.SliceThickness = 2.5
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.ImagePositionPatient = [-24.0, -24.0, 2.5 * number]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows = dataset.Columns = 32
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 1
    dataset.RescaleIntercept = 0
    dataset.RescaleSlope = 1
    dataset.RescaleType = "HU"
    dataset.WindowCenter = 50
    dataset.WindowWidth = 400
    pixels = np.full((32, 32), -100, dtype=np.int16)
    pixels[8:20, 10:16] = 300
    dataset.PixelData = pixels.tobytes()
    return dataset


ANATOMY = Code("91723000", "SCT", "Anatomical Structure")
SQUARE = Target("liver", (), ANATOMY, Code("10200004", "SCT", "Liver"), None, None, (221, 130, 101), (Modality.CT,))
SPLEEN = Target("spleen", (), ANATOMY, Code("78961009", "SCT", "Spleen"), None, None, (157, 108, 162), (Modality.CT,))


class ThresholdAssistant:
    """Finds what is brighter than 100 and calls it liver; a spleen is never there."""

    identity = ModelIdentity("threshold", "1", "0" * 64)

    def __init__(self) -> None:
        self.calls: list[tuple[str | None, tuple[str, ...]]] = []

    def find(
        self, image: Image, prompts: str | Sequence[str], hints: Mapping[int, Hint] = MappingProxyType({})
    ) -> Findings:
        asked = ("liver",) if not prompts else (prompts,) if isinstance(prompts, str) else tuple(prompts)
        self.calls.append((image.series_instance_uid, asked))
        return Findings(
            tuple(self._finding(image, prompt) for prompt in asked),
            self.identity,
            image.grid,
            image.modality,
            "; ".join(asked),
            "An answer.",
        )

    def _finding(self, image: Image, prompt: str) -> Finding:
        if prompt == "spleen":
            return Finding(prompt, SPLEEN, FindingStatus.ABSENT, 0.02)
        if prompt != "liver":
            return Finding(prompt, None, FindingStatus.UNRESOLVED, reason="no such target")
        mask = image.pixels > 100
        return Finding(
            prompt,
            SQUARE,
            FindingStatus.FOUND,
            0.98,
            mask,
            tuple(find_boxes(mask)),
            tuple(measure(mask, image)),
            "A square.",
        )
