"""DICOM instances made from real images that come inside well-known packages, for the demo.

UIDs derive from what is made, so that the same instance has the same UIDs in every run.
"""

from __future__ import annotations

import datetime
from importlib.util import find_spec
from pathlib import Path

import nibabel
import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image as PillowImage
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ExplicitVRLittleEndian,
    MRImageStorage,
    OphthalmicPhotography8BitImageStorage,
    VLMicroscopicImageStorage,
    generate_uid,
)
from pydicom.valuerep import format_number_as_ds

MADE_ON = datetime.datetime(2024, 1, 15, 9, 30)
FUNDUS_DESCRIPTION = "Colour fundus photograph"
MICROSCOPY_DESCRIPTION = "Immunohistochemistry, colon"
BRAIN_DESCRIPTION = "MNI152 T1 average brain"
ABDOMEN_BODY_PART = "ABDOMEN"


def fundus_photograph() -> list[Dataset]:
    """scikit-image's `retina.jpg` as an Ophthalmic Photography 8 Bit Image, RGB 1411 x 1411 (PS3.3 A.41)."""
    path = _packaged("skimage", "data/retina.jpg")
    pixels = _rgb(path)
    instance = _new_instance("fundus", OphthalmicPhotography8BitImageStorage, "OP", FUNDUS_DESCRIPTION)
    _put_rgb(instance, pixels)
    instance.ImageType = ["ORIGINAL", "PRIMARY", "", "COLOR"]
    instance.NumberOfFrames = 1
    instance.FrameIncrementPointer = 0x00181063
    instance.FrameTime = "1"
    instance.AcquisitionDateTime = MADE_ON.strftime("%Y%m%d%H%M%S")
    instance.SynchronizationFrameOfReferenceUID = _uid("fundus", "synchronization")
    instance.SynchronizationTrigger = "NO TRIGGER"
    instance.AcquisitionTimeSynchronized = "N"
    instance.BurnedInAnnotation = "NO"
    instance.PatientEyeMovementCommanded = "NO"
    instance.HorizontalFieldOfView = None
    instance.RefractiveStateSequence = []
    instance.EmmetropicMagnification = None
    instance.IntraOcularPressure = None
    instance.PupilDilated = None
    instance.PatientOrientation = ["L", "F"]
    instance.ImageLaterality = "L"
    instance.AcquisitionContextSequence = []
    instance.AnatomicRegionSequence = [_code("5665001", "SCT", "Retina")]
    instance.AcquisitionDeviceTypeCodeSequence = [_code("409898007", "SCT", "Fundus Camera")]
    instance.IlluminationTypeCodeSequence = []
    instance.LightPathFilterTypeStackCodeSequence = []
    instance.ImagePathFilterTypeStackCodeSequence = []
    instance.LensesCodeSequence = []
    instance.DetectorType = "CCD"
    # The photograph was lossy JPEG before it came here, and a picture that once was lossy stays so (C.7.6.1.1.5).
    instance.LossyImageCompression = "01"
    instance.LossyImageCompressionRatio = format_number_as_ds(round(pixels.nbytes / path.stat().st_size, 2))
    instance.LossyImageCompressionMethod = "ISO_10918_1"
    return [instance]


def microscopic_image() -> list[Dataset]:
    """scikit-image's `ihc.png` as a VL Microscopic Image, RGB 512 x 512 (PS3.3 A.32.2)."""
    instance = _new_instance("microscopy", VLMicroscopicImageStorage, "GM", MICROSCOPY_DESCRIPTION)
    _put_rgb(instance, _rgb(_packaged("skimage", "data/ihc.png")))
    instance.ImageType = ["ORIGINAL", "PRIMARY"]
    instance.PatientOrientation = ""
    instance.AcquisitionContextSequence = []
    instance.AnatomicRegionSequence = [_code("71854001", "SCT", "Colon")]
    instance.LossyImageCompression = "00"
    return [instance]


def abdominal_slice() -> list[Dataset]:
    """pydicom's `examples_overlay.dcm`, a real axial MR slice through liver, kidneys and spleen, as it is."""
    path = get_testdata_file("examples_overlay.dcm", download=False)
    if not isinstance(path, str):
        raise FileNotFoundError("pydicom comes without its test file examples_overlay.dcm: install pydicom 3 or later")
    return [pydicom.dcmread(path)]


def brain_series() -> list[Dataset]:
    """nilearn's MNI152 T1 volume (1 mm) as an axial MR series of 189 slices in patient coordinates.

    NIfTI's world is RAS, DICOM's is LPS: x and y change sign. The volume's first two axes run to the right and to the
    front; rows and columns of an axial slice run to the left and to the back, so both are turned (PS3.3 C.7.6.2.1.1).
    """
    path = _packaged("nilearn", "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz")
    volume = nibabel.load(path)  # type: ignore[attr-defined]
    affine: NDArray[np.float64] = volume.affine  # type: ignore[attr-defined]
    if not np.allclose(affine[:3, :3], np.eye(3)):
        raise ValueError(f"{path}: expected 1 mm voxels along right, front, head")
    voxels = np.asarray(volume.dataobj)  # type: ignore[attr-defined]
    slices = voxels[::-1, ::-1, :].transpose(2, 1, 0).astype(np.uint16)
    first = affine @ [voxels.shape[0] - 1, voxels.shape[1] - 1, 0, 1]
    return [
        _brain_slice(number, pixels, (-first[0], -first[1], first[2] + number)) for number, pixels in enumerate(slices)
    ]


def _brain_slice(number: int, pixels: NDArray[np.uint16], position: tuple[float, float, float]) -> Dataset:
    instance = _new_instance("brain", MRImageStorage, "MR", BRAIN_DESCRIPTION, number)
    instance.ImageType = ["DERIVED", "PRIMARY", "OTHER"]
    instance.BodyPartExamined = "BRAIN"
    instance.PatientPosition = "HFS"
    instance.FrameOfReferenceUID = _uid("brain", "frame of reference")
    instance.PositionReferenceIndicator = ""
    instance.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    instance.ImagePositionPatient = [format_number_as_ds(float(value)) for value in position]
    instance.PixelSpacing = [1, 1]
    instance.SliceThickness = 1
    instance.SpacingBetweenSlices = 1
    instance.ScanningSequence = "GR"
    instance.SequenceVariant = "SP"
    instance.ScanOptions = ""
    instance.MRAcquisitionType = "3D"
    instance.RepetitionTime = None
    instance.EchoTime = None
    instance.EchoTrainLength = None
    instance.SamplesPerPixel = 1
    instance.PhotometricInterpretation = "MONOCHROME2"
    instance.Rows, instance.Columns = pixels.shape
    instance.BitsAllocated, instance.BitsStored, instance.HighBit = 16, 12, 11
    instance.PixelRepresentation = 0
    instance.WindowCenter, instance.WindowWidth = 128, 256
    instance.PixelData = pixels.astype("<u2").tobytes()
    return instance


def _new_instance(study: str, sop_class_uid: str, modality: str, description: str, number: int = 0) -> Dataset:
    """What every instance has: patient, study, series, equipment, and file meta information."""
    instance = Dataset()
    instance.SOPClassUID = sop_class_uid
    instance.SOPInstanceUID = _uid(study, "instance", str(number))
    instance.StudyInstanceUID = _uid(study, "study")
    instance.SeriesInstanceUID = _uid(study, "series")
    instance.PatientName = f"Demo^{study.title()}"
    instance.PatientID = f"DEMO-{study.upper()}"
    instance.PatientBirthDate = ""
    instance.PatientSex = ""
    for keyword in ("Study", "Series", "Acquisition", "Content"):
        setattr(instance, f"{keyword}Date", MADE_ON.strftime("%Y%m%d"))
        setattr(instance, f"{keyword}Time", MADE_ON.strftime("%H%M%S"))
    instance.AccessionNumber = ""
    instance.ReferringPhysicianName = ""
    instance.StudyID = "1"
    instance.StudyDescription = description
    instance.SeriesDescription = description
    instance.SeriesNumber = 1
    instance.AcquisitionNumber = 1
    instance.InstanceNumber = number + 1
    instance.Modality = modality
    instance.Manufacturer = "RCMed demo"
    instance.ManufacturerModelName = "Image from a package"
    instance.DeviceSerialNumber = "1"
    instance.SoftwareVersions = "1"
    instance.file_meta = FileMetaDataset()
    instance.file_meta.MediaStorageSOPClassUID = instance.SOPClassUID
    instance.file_meta.MediaStorageSOPInstanceUID = instance.SOPInstanceUID
    instance.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return instance


def _put_rgb(instance: Dataset, pixels: NDArray[np.uint8]) -> None:
    instance.SamplesPerPixel = 3
    instance.PhotometricInterpretation = "RGB"
    instance.PlanarConfiguration = 0
    instance.Rows, instance.Columns = pixels.shape[:2]
    instance.BitsAllocated, instance.BitsStored, instance.HighBit = 8, 8, 7
    instance.PixelRepresentation = 0
    data = pixels.tobytes()
    instance.PixelData = data + b"\0" * (len(data) % 2)


def _uid(*parts: str) -> str:
    return str(generate_uid(entropy_srcs=["rcmed demo", *parts]))


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _rgb(path: Path) -> NDArray[np.uint8]:
    with PillowImage.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def _packaged(package: str, name: str) -> Path:
    """The path of a file inside an installed package, without importing the package."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"{package} is not installed: run make set-up")
    path = Path(spec.origin).parent / name
    if not path.exists():
        raise FileNotFoundError(f"{path}: this version of {package} comes without it; run make set-up")
    return path
