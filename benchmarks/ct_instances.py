"""CT instances for the benchmarks: a phantom with noise, 16 bit, explicit little endian, with a scanner's header."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid


def write_study(folder: Path, name: str, count: int, edge: int = 512) -> list[Path]:
    """Write one study of one series, a file for each of `count` slices of edge x edge pixels; returns the files.

    UIDs derive from the name, pixels from the number of the slice.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows, columns = np.mgrid[:edge, :edge] - (edge - 1) / 2
    body = (rows / 0.7) ** 2 + columns**2 < (0.42 * edge) ** 2
    files = []
    for number in range(count):
        noise = np.random.default_rng(number).normal(0, 12, (edge, edge))
        dataset = _slice(name, number, edge)
        dataset.PixelData = (np.where(body, 45, -1000) + noise).astype("<i2").tobytes()
        files.append(folder / f"{number:04d}.dcm")
        dataset.save_as(files[-1], enforce_file_format=True)
    return files


def _slice(name: str, number: int, edge: int) -> Dataset:
    instance = Dataset()
    instance.file_meta = FileMetaDataset()
    instance.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    instance.SpecificCharacterSet = "ISO_IR 100"
    instance.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    instance.SOPClassUID = CTImageStorage
    instance.SOPInstanceUID = generate_uid(entropy_srcs=[name, "instance", str(number)])
    for keyword in ("Study", "Series", "Acquisition", "Content"):
        setattr(instance, f"{keyword}Date", "20240115")
        setattr(instance, f"{keyword}Time", "093000")
    instance.AccessionNumber = "B1"
    instance.Modality = "CT"
    instance.Manufacturer = "RCMed benchmark"
    instance.InstitutionName = "None"
    instance.ReferringPhysicianName = ""
    instance.StationName = "CT01"
    instance.StudyDescription = "Phantom"
    instance.SeriesDescription = "Phantom axial"
    instance.ManufacturerModelName = "Phantom"
    instance.PatientName = "Phantom^Benchmark"
    instance.PatientID = "BENCHMARK"
    instance.PatientBirthDate = ""
    instance.PatientSex = "O"
    instance.BodyPartExamined = "ABDOMEN"
    instance.ScanOptions = "HELICAL MODE"
    instance.SliceThickness = 1.25
    instance.KVP = 120
    instance.DataCollectionDiameter = 500
    instance.SoftwareVersions = "1"
    instance.ProtocolName = "Phantom"
    instance.ReconstructionDiameter = 360
    instance.GantryDetectorTilt = 0
    instance.TableHeight = 150
    instance.RotationDirection = "CW"
    instance.ExposureTime = 500
    instance.XRayTubeCurrent = 300
    instance.ConvolutionKernel = "STANDARD"
    instance.PatientPosition = "HFS"
    instance.StudyInstanceUID = generate_uid(entropy_srcs=[name, "study"])
    instance.SeriesInstanceUID = generate_uid(entropy_srcs=[name, "series"])
    instance.StudyID = "1"
    instance.SeriesNumber = 2
    instance.AcquisitionNumber = 1
    instance.InstanceNumber = number + 1
    instance.ImagePositionPatient = [-180, -180, 1.25 * number]
    instance.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    instance.FrameOfReferenceUID = generate_uid(entropy_srcs=[name, "frame of reference"])
    instance.PositionReferenceIndicator = "SN"
    instance.SliceLocation = 1.25 * number
    instance.SamplesPerPixel = 1
    instance.PhotometricInterpretation = "MONOCHROME2"
    instance.Rows = instance.Columns = edge
    instance.PixelSpacing = [round(360 / edge, 6)] * 2
    instance.BitsAllocated = instance.BitsStored = 16
    instance.HighBit = 15
    instance.PixelRepresentation = 1
    instance.WindowCenter, instance.WindowWidth = 40, 400
    instance.RescaleIntercept, instance.RescaleSlope, instance.RescaleType = 0, 1, "HU"
    return instance
