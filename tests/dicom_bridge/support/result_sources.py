"""Images with the source files behind them, and findings in them, for the tests of SEG and SR."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from rcmed.codes import Code
from rcmed.findings import Finding, Findings, FindingStatus, Measurement, ModelIdentity
from rcmed.image import Grid, Image, SourceInstance
from rcmed.modality import Modality
from rcmed.vocabulary.table import Target
from synthetic_study import ANATOMY

CLASSES = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "CR": "1.2.840.10008.5.1.4.1.1.1",
    "US": "1.2.840.10008.5.1.4.1.1.6.1",
    "US multi-frame": "1.2.840.10008.5.1.4.1.1.3.1",
    "OP": "1.2.840.10008.5.1.4.1.1.77.1.5.1",
    "XC": "1.2.840.10008.5.1.4.1.1.77.1.4",
    "enhanced MR": "1.2.840.10008.5.1.4.1.1.4.1",
}
MODEL = ModelIdentity("small", "1.0.0", "ab" * 32)
COLOURS = [(221, 130, 101), (157, 108, 162), (185, 102, 83)]


def save(dataset: Dataset, path: Path) -> Path:
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(path, enforce_file_format=True)
    return path


def header(modality: str, rows: int, columns: int, study: str, series: str) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID = CLASSES[modality]
    dataset.SOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID = study
    dataset.SeriesInstanceUID = series
    dataset.Modality = modality.split()[-1] if modality.startswith("enhanced") else modality.split()[0]
    dataset.PatientName = "Test^Patient"
    dataset.PatientID = "T1"
    dataset.PatientBirthDate = "19700101"
    dataset.PatientSex = "O"
    dataset.StudyDate = "20240102"
    dataset.StudyTime = "112501"
    dataset.StudyID = "1"
    dataset.AccessionNumber = "A1"
    dataset.ReferringPhysicianName = ""
    dataset.Manufacturer = "Test"
    dataset.SeriesNumber = 1
    dataset.InstanceNumber = 1
    dataset.Rows = rows
    dataset.Columns = columns
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = 16
    dataset.BitsStored = 12
    dataset.HighBit = 11
    dataset.PixelRepresentation = 0
    dataset.PixelData = b"\0" * (rows * columns * 2)
    return dataset


def reference(dataset: Dataset, path: Path, frame: int | None = None) -> SourceInstance:
    return SourceInstance(
        path=path,
        sop_class_uid=str(dataset.SOPClassUID),
        sop_instance_uid=str(dataset.SOPInstanceUID),
        series_instance_uid=str(dataset.get("SeriesInstanceUID", "")),
        study_instance_uid=str(dataset.get("StudyInstanceUID", "")),
        frame_number=frame,
    )


def affine_of(
    row: NDArray[np.float64],
    column: NDArray[np.float64],
    step: NDArray[np.float64],
    spacing: Sequence[float],
    origin: NDArray[np.float64],
) -> NDArray[np.float64]:
    affine = np.eye(4)
    affine[:3, 0] = step
    affine[:3, 1] = column * spacing[0]
    affine[:3, 2] = row * spacing[1]
    affine[:3, 3] = origin
    return affine


def image_of(
    grid: Grid, references: Sequence[SourceInstance], modality: Modality, volume: bool, colour: bool = False
) -> Image:
    shape = (*grid.shape, 3) if colour else grid.shape
    return Image(
        pixels=np.zeros(shape, dtype=np.uint8 if colour else np.uint16),
        grid=grid,
        modality=modality,
        sources=tuple(references),
        files=tuple(dict.fromkeys(r.path for r in references)),
        is_volume=volume,
        series_instance_uid=references[0].series_instance_uid,
    )


class Sources:
    """Builders of images whose source files they write into a folder."""

    save = staticmethod(save)

    def volume(
        self,
        folder: Path,
        shape: tuple[int, int, int] = (4, 7, 5),
        spacing: tuple[float, float] = (0.8, 0.7),
        distance: float = 2.5,
        rotation: NDArray[np.float64] | None = None,
        reverse: bool = False,
        modality: str = "CT",
        origin: tuple[float, float, float] = (-12.3, 45.6, -78.9),
        without: Sequence[str] = (),
        **changes: object,
    ) -> Image:
        """A classic series; the columns of `rotation` are the directions of a row, of a column, and of the slices."""
        axes = np.eye(3) if rotation is None else rotation
        row, column, normal = axes.T
        step = normal * distance * (-1 if reverse else 1)
        study, series, frame_of_reference = generate_uid(), generate_uid(), generate_uid()
        written = []
        positions = []
        for number in range(shape[0]):
            dataset = header(modality, shape[1], shape[2], study, series)
            dataset.FrameOfReferenceUID = frame_of_reference
            dataset.PositionReferenceIndicator = ""
            dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
            position = [round(float(x), 6) for x in np.array(origin) + number * step]
            dataset.ImagePositionPatient = position
            dataset.ImageOrientationPatient = [round(float(x), 9) for x in (*row, *column)]
            dataset.PixelSpacing = list(spacing)
            dataset.SliceThickness = distance
            dataset.RescaleIntercept, dataset.RescaleSlope = 0, 1
            dataset.InstanceNumber = number + 1
            for keyword, value in changes.items():
                setattr(dataset, keyword, value)
            for keyword in without:
                delattr(dataset, keyword)
            written.append(reference(dataset, save(dataset, folder / f"{number}.dcm")))
            positions.append(position)
        grid = Grid(shape, affine_of(row, column, step, spacing, np.array(positions[0])))
        return image_of(grid, written, Modality.MR if modality == "MR" else Modality.CT, volume=True)

    def planar(
        self,
        folder: Path,
        modality: str = "CR",
        shape: tuple[int, int] = (9, 6),
        colour: bool = False,
        **changes: object,
    ) -> Image:
        dataset = header(modality, *shape, generate_uid(), generate_uid())
        if colour:
            dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
            dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
            dataset.PixelData = b"\0" * (shape[0] * shape[1] * 3)
        for keyword, value in changes.items():
            setattr(dataset, keyword, value)
        path = save(dataset, folder / "image.dcm")
        grid = Grid.without_geometry(*shape)
        return image_of(grid, [reference(dataset, path)], Modality.X_RAY, volume=False, colour=colour)

    def frames_without_groups(
        self, folder: Path, modality: str = "US multi-frame", shape: tuple[int, int, int] = (3, 6, 5)
    ) -> Image:
        dataset = header(modality, *shape[1:], generate_uid(), generate_uid())
        dataset.NumberOfFrames = shape[0]
        dataset.PixelData = b"\0" * (int(np.prod(shape)) * 2)
        path = save(dataset, folder / "frames.dcm")
        references = [reference(dataset, path, frame) for frame in range(1, shape[0] + 1)]
        return image_of(Grid.without_geometry(*shape[1:], slices=shape[0]), references, Modality.ULTRASOUND, False)

    def enhanced(
        self,
        folder: Path,
        shape: tuple[int, int, int] = (4, 6, 5),
        frames: Sequence[int] | None = None,
        measures_per_frame: bool = False,
    ) -> Image:
        """An enhanced MR; `frames` are the numbers (from 1) of the slices' frames, which lie along the normal."""
        order = list(frames or range(1, shape[0] + 1))
        dataset = header("enhanced MR", *shape[1:], generate_uid(), generate_uid())
        dataset.NumberOfFrames = shape[0]
        dataset.FrameOfReferenceUID = generate_uid()
        dataset.PixelData = b"\0" * (int(np.prod(shape)) * 2)
        measures, orientation = Dataset(), Dataset()
        measures.PixelSpacing, measures.SliceThickness = [0.9, 0.6], 2.0
        orientation.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
        shared = Dataset()
        shared.PlaneOrientationSequence = [orientation]
        if not measures_per_frame:
            shared.PixelMeasuresSequence = [measures]
        dataset.SharedFunctionalGroupsSequence = [shared]
        groups = {}
        for number, frame in enumerate(order):
            group, position = Dataset(), Dataset()
            position.ImagePositionPatient = [10.0 + 2.0 * number, -20.0, 30.0]
            group.PlanePositionSequence = [position]
            if measures_per_frame:
                group.PixelMeasuresSequence = [measures]
            groups[frame] = group
        dataset.PerFrameFunctionalGroupsSequence = [groups[frame] for frame in sorted(groups)]
        path = save(dataset, folder / "enhanced.dcm")
        affine = affine_of(
            np.array([0.0, 1.0, 0.0]),
            np.array([0.0, 0.0, -1.0]),
            np.array([2.0, 0.0, 0.0]),
            (0.9, 0.6),
            np.array([10.0, -20.0, 30.0]),
        )
        references = [reference(dataset, path, frame) for frame in order]
        return image_of(Grid(shape, affine), references, Modality.MR, volume=True)

    def target(self, name: str = "liver", code: str = "10200004", number: int = 0, **changes: object) -> Target:
        told: dict[str, object] = {
            "name": name,
            "synonyms": (),
            "category": ANATOMY,
            "type": Code(code, "SCT", name.capitalize()),
            "region": None,
            "laterality": None,
            "colour": COLOURS[number % 3],
            "modalities": tuple(Modality),
        }
        return Target(**{**told, **changes})  # type: ignore[arg-type]

    def found(self, mask: NDArray[np.bool_], target: Target | None = None, **changes: object) -> Finding:
        target = target or self.target()
        measurement = Measurement("volume", 1.5, "cm3", Code("118565006", "SCT", "Volume"))
        told: dict[str, object] = {
            "prompt": target.name,
            "target": target,
            "status": FindingStatus.FOUND,
            "presence": 0.97,
            "mask": mask,
            "measurements": (measurement,),
            "description": f"The {target.name} is there.",
        }
        return Finding(**{**told, **changes})  # type: ignore[arg-type]

    def absent(self, name: str = "spleen", code: str = "78961009") -> Finding:
        return Finding(name, self.target(name, code), FindingStatus.ABSENT, presence=0.02)

    def unresolved(self) -> Finding:
        return Finding("flux capacitor", None, FindingStatus.UNRESOLVED, reason="no target of this name")

    def findings(self, image: Image, *findings: Finding) -> Findings:
        return Findings(
            findings=findings,
            model=MODEL,
            grid=image.grid,
            modality=image.modality,
            instruction="Can you segment the liver in this image?",
            answer="It is [SEG].",
        )
