"""A source's header, brought into a form on which a valid result can be built.

No slip in an attribute that a result does not need costs the result: what is not of its value representation is brought
into form where it can only mean one thing; else it is emptied (Type 2) or left out (Type 3), and that is told.
"""

from __future__ import annotations

from pathlib import Path

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset, FileDataset
from pydicom.tag import Tag
from pydicom.uid import JPEG2000, UID, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless

from dicom_bridge.results.sources.copied import EMPTY_WHERE_UNKNOWN, OPTIONAL
from dicom_bridge.results.sources.items import copied_element
from dicom_bridge.series.headers.instance import NAMES_AND_PLACES, numbers, value

_LOSSY_METHODS = {
    JPEGBaseline8Bit: "ISO_10918_1",
    JPEGExtended12Bit: "ISO_10918_1",
    JPEGLSNearLossless: "ISO_14495_1",
    JPEG2000: "ISO_15444_1",
}
# JPEG 2000 (…91) may hold a reversible stream; only these are lossy whatever the file says.
_ALWAYS_LOSSY = {JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless}
_OF_A_TRIAL = tuple(keyword for keyword in OPTIONAL if keyword.startswith("ClinicalTrial"))
_OF_A_SPECIMEN = (
    *("ContainerIdentifier", "IssuerOfTheContainerIdentifierSequence", "ContainerTypeCodeSequence"),
    *("ContainerDescription", "SpecimenDescriptionSequence"),
)
_OF_AN_ANIMAL = ("PatientBreedDescription", "ResponsiblePerson", "ResponsibleOrganization", "PatientSexNeutered")


def mended(header: Dataset, path: Path) -> tuple[Dataset, tuple[str, ...]]:
    """What results take from a header, valid; of the header itself nothing is changed.

    Args:
        header: as it was read from `path`, with SOP Class, SOP Instance, Study, Series and Modality.
        path: of the file.
    Returns:
        the header that results are built on, in Unicode, with the elements `NAMES_AND_PLACES` as they are; and a line
        for each attribute of which something is lost, which shows no value: it may be the patient's.
    """
    copy = Dataset({tag: header.get_item(tag) for tag in map(Tag, NAMES_AND_PLACES) if tag in header})
    lost = []
    for keyword in (*EMPTY_WHERE_UNKNOWN, *OPTIONAL):
        element, is_less = copied_element(header, keyword)
        if element is not None:
            copy.add(element)
        elif keyword in EMPTY_WHERE_UNKNOWN:
            setattr(copy, keyword, "")
        if is_less:
            lost.append(_loss(keyword, path, is_kept=element is not None))
    copy.SpecificCharacterSet = "ISO_IR 192"
    _complete_modules(copy)
    _mend_lossy(copy, header, path)
    return copy, tuple(lost)


def _loss(keyword: str, path: Path, is_kept: bool) -> str:
    tag = tag_for_keyword(keyword) or 0
    vr = dictionary_VR(tag)
    done = "emptied" if keyword in EMPTY_WHERE_UNKNOWN else "left out"
    if is_kept:
        done = "kept in part"
    elif keyword == "LossyImageCompressionRatio":
        done = "estimated"
    kind = "complete" if vr == "SQ" else f"a valid value of {vr}"
    return f"{path}: {keyword} ({tag >> 16:04X},{tag & 0xFFFF:04X}) is not {kind}; it is {done} in the results"


def _complete_modules(header: Dataset) -> None:
    """What is asked for where something else is there (Types 1C and 2C), and modules that lack what they must have."""
    if header.get("PatientIdentityRemoved") == "YES" and not (
        "DeidentificationMethod" in header or "DeidentificationMethodCodeSequence" in header
    ):
        header.DeidentificationMethod = "Not told by the source"
    if header.get("ResponsiblePerson") and "ResponsiblePersonRole" not in header:
        del header.ResponsiblePerson
    if "PatientSpeciesDescription" in header or "PatientSpeciesCodeSequence" in header:
        for keyword in _OF_AN_ANIMAL:
            if keyword not in header:
                setattr(header, keyword, "")
        for keyword in ("PatientBreedCodeSequence", "BreedRegistrationSequence"):
            if keyword not in header:
                setattr(header, keyword, [])
    is_subject = "ClinicalTrialSubjectID" in header or "ClinicalTrialSubjectReadingID" in header
    if is_subject and "ClinicalTrialSponsorName" in header and "ClinicalTrialProtocolID" in header:
        for keyword in ("ClinicalTrialProtocolName", "ClinicalTrialSiteID", "ClinicalTrialSiteName"):
            if keyword not in header:
                setattr(header, keyword, "")
        if any(keyword.startswith("ClinicalTrialTimePoint") and keyword in header for keyword in _OF_A_TRIAL):
            header.ClinicalTrialTimePointID = header.get("ClinicalTrialTimePointID", "")
    else:
        _leave_out(header, _OF_A_TRIAL)
    if "ContainerIdentifier" in header and "SpecimenDescriptionSequence" in header:
        for keyword in ("IssuerOfTheContainerIdentifierSequence", "ContainerTypeCodeSequence"):
            if keyword not in header:
                setattr(header, keyword, [])
    else:
        _leave_out(header, _OF_A_SPECIMEN)


def _leave_out(header: Dataset, keywords: tuple[str, ...]) -> None:
    for keyword in keywords:
        if keyword in header:
            delattr(header, keyword)


def _mend_lossy(copy: Dataset, header: Dataset, path: Path) -> None:
    """A result of a lossy source says so, with ratio and method (PS3.3 C.7.6.1.1.5)."""
    syntax = UID(value(header.file_meta, "TransferSyntaxUID") or "") if isinstance(header, FileDataset) else UID("")
    if syntax in _ALWAYS_LOSSY:
        copy.LossyImageCompression = "01"
    if copy.get("LossyImageCompression") != "01":
        copy.LossyImageCompression = "00"
        _leave_out(copy, ("LossyImageCompressionRatio", "LossyImageCompressionMethod"))
        return
    if "LossyImageCompressionRatio" not in copy:
        values = {keyword: numbers(header, keyword, 1) for keyword in ("NumberOfFrames", "SamplesPerPixel")}
        size = 1.0
        for keyword in ("Rows", "Columns", "BitsAllocated"):
            size *= (numbers(header, keyword, 1) or (0.0,))[0]
        for found in values.values():
            size *= 1.0 if found is None else found[0]
        # The size of the file stands for the size of its stream: what is told is an approximation anyway.
        copy.LossyImageCompressionRatio = f"{max(1.0, size / 8 / max(1, path.stat().st_size)):.2f}"
    if "LossyImageCompressionMethod" not in copy and syntax in _LOSSY_METHODS:
        copy.LossyImageCompressionMethod = _LOSSY_METHODS[syntax]
