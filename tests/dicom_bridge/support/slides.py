"""Whole slides and enhanced objects, whole and in parts."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import EnhancedCTImageStorage, ExplicitVRLittleEndian, VLWholeSlideMicroscopyImageStorage, generate_uid


def item(**values: object) -> Dataset:
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def _object(sop_class: str, modality: str, frames: NDArray[np.uint8 | np.int16]) -> Dataset:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = sop_class
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    made.StudyInstanceUID, made.SeriesInstanceUID, made.FrameOfReferenceUID = "2.25.1", "2.25.2", "2.25.3"
    made.Modality, made.PatientID, made.PatientName = modality, "P1", "Slide^Test"
    made.StudyDate, made.StudyTime, made.AccessionNumber, made.StudyID = "20260102", "101500", "", "1"
    made.PatientBirthDate, made.PatientSex, made.ReferringPhysicianName = "19500101", "O", ""
    made.Manufacturer, made.ManufacturerModelName, made.DeviceSerialNumber, made.SoftwareVersions = "M", "N", "1", "1"
    made.SeriesNumber, made.InstanceNumber, made.PositionReferenceIndicator = 1, 1, ""
    made.Rows, made.Columns, made.NumberOfFrames = frames.shape[1], frames.shape[2], len(frames)
    made.SamplesPerPixel = 3 if frames.ndim == 4 else 1
    made.PhotometricInterpretation = "RGB" if frames.ndim == 4 else "MONOCHROME2"
    if frames.ndim == 4:
        made.PlanarConfiguration = 0
    made.BitsAllocated = made.BitsStored = 8 * frames.dtype.itemsize
    made.HighBit, made.PixelRepresentation = made.BitsStored - 1, int(frames.dtype.kind == "i")
    made.PixelData = frames.tobytes()
    return made


def slide(tiles: NDArray[np.uint8], size: tuple[int, int], paths: Sequence[str] = ("1",), planes: int = 1) -> Dataset:
    """A TILED_FULL slide of `size` (rows, columns): tiles by path, plane, row and column (PS3.3 C.7.6.17.3)."""
    made = _object(VLWholeSlideMicroscopyImageStorage, "SM", tiles)
    made.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    made.TotalPixelMatrixRows, made.TotalPixelMatrixColumns = size
    made.DimensionOrganizationType, made.TotalPixelMatrixFocalPlanes = "TILED_FULL", planes
    made.NumberOfOpticalPaths = len(paths)
    made.OpticalPathSequence = [item(OpticalPathIdentifier=path) for path in paths]
    made.ImageOrientationSlide = [0, -1, 0, -1, 0, 0]
    made.TotalPixelMatrixOriginSequence = [item(XOffsetInSlideCoordinateSystem=20, YOffsetInSlideCoordinateSystem=40)]
    made.SharedFunctionalGroupsSequence = [
        item(PixelMeasuresSequence=[item(PixelSpacing=[0.0005, 0.0005], SliceThickness=0.001)])
    ]
    made.ContainerIdentifier, made.IssuerOfTheContainerIdentifierSequence = "C1", []
    made.ContainerTypeCodeSequence = [_code("433466003", "SCT", "Microscope slide")]
    made.SpecimenDescriptionSequence = [
        item(
            SpecimenIdentifier="C1",
            SpecimenUID="2.25.7",
            IssuerOfTheSpecimenIdentifierSequence=[],
            SpecimenPreparationSequence=[],
        )
    ]
    return made


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    return item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


def cut(picture: NDArray[np.uint8], tile: tuple[int, int]) -> NDArray[np.uint8]:
    """A picture (row, column[, 3]) to tiles (tile, row, column[, 3]), the last of a row or column filled with white."""
    rows, columns = (-(-length // edge) for length, edge in zip(picture.shape[:2], tile, strict=True))
    padded = np.full((rows * tile[0], columns * tile[1], *picture.shape[2:]), 255, np.uint8)
    padded[: picture.shape[0], : picture.shape[1]] = picture
    return np.stack(
        [
            padded[row * tile[0] : (row + 1) * tile[0], column * tile[1] : (column + 1) * tile[1]]
            for row in range(rows)
            for column in range(columns)
        ]
    )


def sparse(made: Dataset, places: Sequence[tuple[int, int, str, float]]) -> Dataset:
    """The slide as TILED_SPARSE: (row, column, optical path, height) of each tile, from 0."""
    made.DimensionOrganizationType = "TILED_SPARSE"
    made.PerFrameFunctionalGroupsSequence = [
        item(
            PlanePositionSlideSequence=[
                item(
                    RowPositionInTotalImagePixelMatrix=row + 1,
                    ColumnPositionInTotalImagePixelMatrix=column + 1,
                    ZOffsetInSlideCoordinateSystem=height,
                )
            ],
            OpticalPathIdentificationSequence=[item(OpticalPathIdentifier=path)],
        )
        for row, column, path, height in places
    ]
    return made


def enhanced_ct(volume: NDArray[np.int16]) -> Dataset:
    """(slice, row, column) in HU, 2 mm apart."""
    made = _object(EnhancedCTImageStorage, "CT", volume)
    made.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    made.SharedFunctionalGroupsSequence = [
        item(
            PixelMeasuresSequence=[item(PixelSpacing=[1, 1], SliceThickness=2)],
            PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
            PixelValueTransformationSequence=[item(RescaleIntercept=0, RescaleSlope=1, RescaleType="HU")],
        )
    ]
    made.PerFrameFunctionalGroupsSequence = [
        item(PlanePositionSequence=[item(ImagePositionPatient=[0, 0, 2 * number])]) for number in range(len(volume))
    ]
    return made


def parts_of(whole: Dataset, lengths: Sequence[int]) -> list[Dataset]:
    """A concatenation of as many frames each (PS3.3 C.7.6.16.2.2.4)."""
    frame_bytes = len(whole.PixelData) // int(whole.NumberOfFrames)
    groups = list(whole.get("PerFrameFunctionalGroupsSequence", []))
    made, begin = [], 0
    for number, length in enumerate(lengths, 1):
        part = copy.deepcopy(Dataset({tag: whole[tag] for tag in whole.keys() if tag != Tag("PixelData")}))  # noqa: SIM118
        part.file_meta = FileMetaDataset()
        part.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        part.file_meta.MediaStorageSOPClassUID = whole.SOPClassUID
        uid = generate_uid()
        del part.SOPInstanceUID, part.NumberOfFrames
        part.SOPInstanceUID = part.file_meta.MediaStorageSOPInstanceUID = uid
        part.NumberOfFrames = length
        part.PixelData = whole.PixelData[begin * frame_bytes : (begin + length) * frame_bytes]
        if groups:
            del part.PerFrameFunctionalGroupsSequence
            part.PerFrameFunctionalGroupsSequence = groups[begin : begin + length]
        part.ConcatenationUID, part.SOPInstanceUIDOfConcatenationSource = "2.25.9", whole.SOPInstanceUID
        part.InConcatenationNumber, part.InConcatenationTotalNumber = number, len(lengths)
        part.ConcatenationFrameOffsetNumber = begin
        made.append(part)
        begin += length
    return made


def save(objects: Sequence[Dataset], folder: Path) -> list[Path]:
    """The files, in the order of the objects."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number}.dcm" for number in range(len(objects))]
    for made, path in zip(objects, paths, strict=True):
        made.save_as(path, enforce_file_format=True)
    return paths
