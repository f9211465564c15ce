"""The image library of a report (PS3.16 TID 1600): which images were looked at."""

from __future__ import annotations

from highdicom.sr import (
    CodeContentItem,
    CodedConcept,
    ContainerContentItem,
    ContentItem,
    ContentSequence,
    ImageContentItem,
    NumContentItem,
    RelationshipTypeValues,
    UIDRefContentItem,
)
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from dicom_bridge.results.codes import unit_concept
from dicom_bridge.results.references import ImageList, ImageReference
from dicom_bridge.results.sources.source import Source

# PS3.16 CID 29 and 32; DICOM's own name of each modality that is met here.
_MODALITIES = {
    "BI": "Biomagnetic imaging",
    "CR": "Computed Radiography",
    "CT": "Computed Tomography",
    "DX": "Digital Radiography",
    "ES": "Endoscopy",
    "GM": "General Microscopy",
    "IO": "Intra-oral Radiography",
    "MG": "Mammography",
    "MR": "Magnetic Resonance",
    "NM": "Nuclear Medicine",
    "OP": "Ophthalmic Photography",
    "OPT": "Ophthalmic Tomography",
    "PT": "Positron emission tomography",
    "RF": "Radiofluoroscopy",
    "RG": "Radiographic imaging",
    "SM": "Slide Microscopy",
    "US": "Ultrasound",
    "XA": "X-Ray Angiography",
    "XC": "External-camera Photography",
}
_ACQUISITION = RelationshipTypeValues.HAS_ACQ_CONTEXT
SOURCE = CodedConcept("260753009", "SCT", "Source")


def image_library(source: Source) -> tuple[ContainerContentItem, list[ImageList]]:
    """The library of all source instances, a group for each series and size, and what is to be completed of it.

    What all images of a group share (modality, frame of reference, rows and columns) is told once, by TID 1602 at the
    group; nothing that the source does not have is asked for.
    """
    library = ContainerContentItem(codes.DCM.ImageLibrary, relationship_type=RelationshipTypeValues.CONTAINS)
    library.ContentSequence = ContentSequence()
    groups: dict[tuple[str, int, int], list[Dataset]] = {}
    for header in source.instances:
        key = (str(header.SeriesInstanceUID), int(header.Rows), int(header.Columns))
        groups.setdefault(key, []).append(header)
    lists = []
    for headers in groups.values():
        group = ContainerContentItem(codes.DCM.ImageLibraryGroup, relationship_type=RelationshipTypeValues.CONTAINS)
        first, *others = ImageReference.of(headers)
        image = ImageContentItem(SOURCE, first.sop_class_uid, first.sop_instance_uid, relationship_type="CONTAINS")
        group.ContentSequence = ContentSequence([*_descriptors(headers[0]), image])
        library.ContentSequence.append(group)
        lists.append(ImageList(group, image, others))
    return library, lists


def _descriptors(header: Dataset) -> list[ContentItem]:
    modality = str(header.Modality)
    value = CodedConcept(modality, "DCM", _MODALITIES[modality]) if modality in _MODALITIES else None
    items: list[ContentItem] = [
        CodeContentItem(codes.DCM.Modality, value or CodedConcept("OT", "DCM", "Other Modality"), _ACQUISITION)
    ]
    if header.get("FrameOfReferenceUID"):
        items.append(UIDRefContentItem(codes.DCM.FrameOfReferenceUID, header.FrameOfReferenceUID, _ACQUISITION))
    pixels = unit_concept("{pixels}")
    items.append(NumContentItem(codes.DCM.PixelDataRows, int(header.Rows), pixels, relationship_type=_ACQUISITION))
    items.append(
        NumContentItem(codes.DCM.PixelDataColumns, int(header.Columns), pixels, relationship_type=_ACQUISITION)
    )
    return items
