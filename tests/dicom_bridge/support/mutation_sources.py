"""Sound files to damage, made here: one for each way to encode that a library at hand can write."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEG2000,
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)

from synthetic_study import ct_slice

STUDY, SERIES = "1.2.826.0.1.3680043.8.498.1", "1.2.826.0.1.3680043.8.498.3"


def write_sources(folder: Path) -> list[Path]:
    """Write the files; their order is always the same."""
    written = []
    for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian):
        written.append(_save(_slice(), folder / f"ct-{syntax.name.split()[0].lower()}.dcm", syntax))
    big_endian = _slice()
    big_endian.PixelData = np.frombuffer(big_endian.PixelData, "<i2").astype(">i2").tobytes()
    written.append(_save(big_endian, folder / "ct-big-endian.dcm", ExplicitVRBigEndian))
    for syntax in (RLELossless, JPEG2000Lossless, JPEGLSLossless):
        compressed = _slice()
        compressed.compress(syntax, generate_instance_uid=False)
        written.append(_save(compressed, folder / f"ct-{syntax.keyword}.dcm", syntax))
    for syntax, kind in ((JPEGBaseline8Bit, "JPEG"), (JPEG2000, "JPEG2000")):
        written.append(_save(_picture(kind), folder / f"picture-{kind}.dcm", syntax))
    written.append(_save(_palette(), folder / "palette-loop.dcm", ExplicitVRLittleEndian))
    written.append(_save(_enhanced(), folder / "enhanced.dcm", ExplicitVRLittleEndian))
    return written


def _save(dataset: Dataset, path: Path, syntax: UID) -> Path:
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(path, enforce_file_format=True)
    return path


def _slice() -> Dataset:
    dataset = ct_slice(1, STUDY, SERIES, generate_uid(entropy_srcs=[STUDY]))
    noise = np.random.default_rng(1).integers(-20, 20, (32, 32), dtype=np.int16)
    dataset.PixelData = (dataset.pixel_array + noise).tobytes()
    dataset.BitsStored, dataset.HighBit = 12, 11
    return dataset


def _picture(kind: str) -> Dataset:
    dataset = _slice()
    dataset.SOPClassUID, dataset.Modality = SecondaryCaptureImageStorage, "XC"
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=[SERIES, kind])
    dataset.SamplesPerPixel, dataset.PlanarConfiguration, dataset.PixelRepresentation = 3, 0, 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PhotometricInterpretation = "YBR_FULL_422" if kind == "JPEG" else "RGB"
    stream = io.BytesIO()
    pixels = np.random.default_rng(2).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    options = {"quality": 80} if kind == "JPEG" else {"no_jp2": True, "mct": 0}
    PillowImage.fromarray(pixels).save(stream, kind, **options)
    dataset.PixelData = encapsulate([stream.getvalue()])
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    return dataset


def _palette() -> Dataset:
    dataset = _slice()
    dataset.SOPClassUID, dataset.Modality, dataset.NumberOfFrames = UltrasoundMultiFrameImageStorage, "US", 3
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=[SERIES, "palette"])
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.PhotometricInterpretation = "PALETTE COLOR"
    for colour in ("Red", "Green", "Blue"):
        setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(dataset, f"{colour}PaletteColorLookupTableData", np.arange(256, dtype="<u2").tobytes())
    dataset.PixelData = np.random.default_rng(3).integers(0, 255, (3, 32, 32), dtype=np.uint8).tobytes()
    return dataset


def _enhanced() -> Dataset:
    dataset = _slice()
    dataset.SOPClassUID, dataset.Modality, dataset.NumberOfFrames = EnhancedMRImageStorage, "MR", 3
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=[SERIES, "enhanced"])
    assert dataset.SOPClassUID != CTImageStorage
    shared, measures, plane = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [1.5, 1.5], 2.5
    plane.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [plane]
    dataset.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for number in range(3):
        group, position = Dataset(), Dataset()
        position.ImagePositionPatient = [0.0, 0.0, 2.5 * number]
        group.PlanePositionSequence = [position]
        groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence = groups
    dataset.PixelData = np.tile(np.frombuffer(dataset.PixelData, np.int16), 3).tobytes()
    return dataset
