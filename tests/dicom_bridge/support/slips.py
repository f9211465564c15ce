"""Slips of other systems in attributes that a result copies or does not need, and what results say in their place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import ImplicitVRLittleEndian


@dataclass(frozen=True)
class Slip:
    """Changes a source's instance.

    Attributes:
        change: of the data set.
        keyword: that is changed.
        becomes: its value in the results; None: it is not there.
        is_told: whether a line says that something is lost.
    """

    change: Callable[[Dataset], None]
    keyword: str
    becomes: Any
    is_told: bool = True


def _raw(keyword: str, vr: str, value: bytes) -> Callable[[Dataset], None]:
    """The attribute with exactly these bytes."""
    tag = Tag(keyword)

    def change(dataset: Dataset) -> None:
        dataset._dict[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)

    return change


def _all_of(*changes: Callable[[Dataset], None]) -> Callable[[Dataset], None]:
    def change(dataset: Dataset) -> None:
        for one in changes:
            one(dataset)

    return change


def _item(**attributes: Any) -> Dataset:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


def _set(**attributes: Any) -> Callable[[Dataset], None]:
    def change(dataset: Dataset) -> None:
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value)

    return change


_GOOD_CODE = {"CodeValue": "CTABD", "CodingSchemeDesignator": "L", "CodeMeaning": "CT abdomen"}

SLIPS = {
    "day that no calendar has": Slip(_raw("PatientBirthDate", "DA", b"19500000"), "PatientBirthDate", ""),
    "day of no year": Slip(_raw("StudyDate", "DA", b"00950724"), "StudyDate", ""),
    "day with dots": Slip(_raw("StudyDate", "DA", b"2024.01.02"), "StudyDate", "20240102", False),
    "time of no day": Slip(_raw("StudyTime", "TM", b"246161"), "StudyTime", ""),
    "time with colons": Slip(_raw("StudyTime", "TM", b"10:20:30"), "StudyTime", "102030", False),
    "two names": Slip(_raw("PatientName", "PN", b"A^B\\C^D "), "PatientName", ""),
    "name in another representation": Slip(_raw("PatientName", "LO", b"A^B "), "PatientName", "A^B", False),
    "name that is a sequence": Slip(_raw("PatientName", "SQ", b""), "PatientName", "", False),
    "sex in words": Slip(_raw("PatientSex", "CS", b"Male"), "PatientSex", ""),
    "identifier that is too long": Slip(_raw("AccessionNumber", "SH", b"A" * 20), "AccessionNumber", ""),
    "description that is too long": Slip(_set(StudyDescription="d" * 80), "StudyDescription", "d" * 64, False),
    "age without zeros": Slip(_raw("PatientAge", "AS", b"0Y"), "PatientAge", "000Y", False),
    "age of stars": Slip(_raw("PatientAge", "AS", b"*** "), "PatientAge", None),
    "age without unit": Slip(_raw("PatientAge", "AS", b"24"), "PatientAge", None),
    "weight with a comma": Slip(_raw("PatientWeight", "DS", b"70,5"), "PatientWeight", None),
    "thickness with a comma": Slip(_raw("SliceThickness", "DS", b"5,0 "), "SliceThickness", None, False),
    "distance with its unit": Slip(_raw("SpacingBetweenSlices", "DS", b"5mm "), "SpacingBetweenSlices", None, False),
    "identity removed in no way": Slip(
        _set(PatientIdentityRemoved="YES"), "DeidentificationMethod", "Not told by the source", False
    ),
    "code without meaning": Slip(
        _set(ProcedureCodeSequence=[_item(CodeValue="CTABD", CodingSchemeDesignator="L")]),
        "ProcedureCodeSequence",
        None,
    ),
    "code without scheme beside a whole one": Slip(
        _set(ProcedureCodeSequence=[_item(CodeValue="X", CodeMeaning="x"), _item(**_GOOD_CODE)]),
        "ProcedureCodeSequence",
        [_item(**_GOOD_CODE)],
    ),
    "code with half a context": Slip(
        _set(ProcedureCodeSequence=[_item(**_GOOD_CODE, ContextIdentifier="1", ContextGroupExtensionFlag="Y")]),
        "ProcedureCodeSequence",
        [_item(**_GOOD_CODE)],
        False,
    ),
    "sequence that is text": Slip(_raw("ProcedureCodeSequence", "LO", b"CT"), "ProcedureCodeSequence", None),
    "reference to nothing": Slip(_set(ReferencedStudySequence=[_item()]), "ReferencedStudySequence", None),
    "animal": Slip(_set(PatientSpeciesDescription="Mus musculus"), "PatientSexNeutered", "", False),
    "trial without sponsor": Slip(_set(ClinicalTrialSiteID="7"), "ClinicalTrialSiteID", None, False),
    "physician without code": Slip(
        _set(ReferringPhysicianIdentificationSequence=[_item(InstitutionName="H")]),
        "ReferringPhysicianIdentificationSequence",
        None,
    ),
    "lossy with a ratio in words": Slip(
        _all_of(
            _raw("LossyImageCompression", "CS", b"01"),
            _raw("LossyImageCompressionRatio", "DS", b"10:1"),
        ),
        "StudyID",
        "1",
    ),
}


def spoil(folder: Path, slip: Slip) -> None:
    """Bring a slip into every instance of a folder."""
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        slip.change(dataset)
        dataset.save_as(path)


def put_stray_item(folder: Path) -> None:
    """Put an Item of no sequence, which has no value representation, before the pixels of every instance."""
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        pixels = dataset.PixelData
        del dataset.PixelData
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        dataset.save_as(path, implicit_vr=True, little_endian=True)
        # Its tag is greater than that of the pixels, but readers of implicit data sets take what comes.
        stray = b"\xfe\xff\x00\xe0\0\0\0\0"
        data = b"\xe0\x7f\x10\x00" + len(pixels).to_bytes(4, "little") + pixels
        path.write_bytes(path.read_bytes() + stray + data)
