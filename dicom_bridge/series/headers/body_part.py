"""The body regions that the header of an image tells."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from pydicom import Dataset
from pydicom.sequence import Sequence

from dicom_bridge.series.headers.instance import Instance, text, value
from dicom_bridge.series.headers.modality import modality_of
from rcmed.image import Image
from rcmed.modality import Modality
from rcmed.vocabulary import BodyRegion
from rcmed.vocabulary.region_words import regions_named

# Anatomic regions (PS3.16 CID 4031 and its kin) whose meaning may be written in any language: SCT, and SRT before it.
_BY_CODE = {
    **dict.fromkeys(("69536005", "T-D1100", "12738006", "T-A0100"), (BodyRegion.HEAD,)),
    **dict.fromkeys(("45048000", "T-D1600"), (BodyRegion.NECK,)),
    **dict.fromkeys(("774007", "T-D1000"), (BodyRegion.HEAD, BodyRegion.NECK)),
    **dict.fromkeys(("51185008", "816094009", "T-D3000"), (BodyRegion.CHEST,)),
    **dict.fromkeys(("113345001", "818981001", "818983003", "T-D4000"), (BodyRegion.ABDOMEN,)),
    **dict.fromkeys(("12921003", "816092008", "T-D6000"), (BodyRegion.PELVIS,)),
    **dict.fromkeys(("416949008", "818982008"), (BodyRegion.ABDOMEN, BodyRegion.PELVIS)),
    **dict.fromkeys(("76752008", "T-04000"), (BodyRegion.BREAST,)),
    **dict.fromkeys(("81745001", "T-AA000", "5665001", "T-AA610"), (BodyRegion.EYE,)),
}
# What the kind of image shows beside what its header says.
_BY_MODALITY = {
    Modality.FUNDUS: {BodyRegion.EYE},
    Modality.DERMOSCOPY: {BodyRegion.SKIN},
    Modality.PATHOLOGY: {BodyRegion.TISSUE, BodyRegion.CELL},
}
# What images of a Modality (0008,0060) are always of: a mammogram of the "chest" is one of the breast.
_BY_TERM = {"MG": {BodyRegion.BREAST}, "IO": {BodyRegion.HEAD}, "PX": {BodyRegion.HEAD}, "IVUS": {BodyRegion.CHEST}}
_OF_THE_SERIES = ("BodyPartExamined", "SeriesDescription", "ProtocolName")
_OF_THE_STUDY = ("StudyDescription", "RequestedProcedureDescription", "PerformedProcedureStepDescription")
_DEEP = (Modality.CT, Modality.MR, Modality.PET)


def tell_what_is_shown(image: Image, instance: Instance, wanted: Modality | None) -> Image:
    """The image with the body regions that its header tells, and whether its modality is a guess."""
    is_assumed = wanted is None and modality_of(instance, None)[1] is not None
    regions = named_body_regions(instance, image.modality)
    return replace(image, body_regions=regions, is_modality_assumed=is_assumed)


def named_body_regions(instance: Instance, modality: Modality) -> frozenset[BodyRegion] | None:
    """All body regions that a header tells of an image; None where it tells none.

    What is said of the series (Body Part Examined, Anatomic Region, Series Description, Protocol Name) counts before
    what is said of the study, which may have been of more. Where the two have nothing in common one is wrong (a default
    of the scanner, say), and both count.
    """
    header = instance.header
    named = {region for words in (text(header, name) for name in _OF_THE_SERIES) for region in regions_named(words)}
    named |= {region for code in _anatomic_codes(header) for region in _regions_of(code)}
    of_term = _BY_TERM.get(text(header, "Modality"))
    if of_term is not None:
        return frozenset(of_term)
    study = {region for words in (text(header, name) for name in _OF_THE_STUDY) for region in regions_named(words)}
    if not named & study:
        named |= study
    if not named:
        return None
    if BodyRegion.BREAST in named and modality in _DEEP:
        # A breast coil or a prone patient: the slices go through the chest.
        named.add(BodyRegion.CHEST)
    return frozenset(named | _BY_MODALITY.get(modality, set()))


def _anatomic_codes(header: Dataset) -> Iterator[Dataset]:
    """Anatomic Region Sequence of the image, and of its frames (PS3.3 C.7.6.16.2.8)."""
    yield from _items(header, "AnatomicRegionSequence")
    for group in (
        *_items(header, "SharedFunctionalGroupsSequence"),
        *_items(header, "PerFrameFunctionalGroupsSequence"),
    ):
        for anatomy in _items(group, "FrameAnatomySequence"):
            yield from _items(anatomy, "AnatomicRegionSequence")


def _items(dataset: Dataset, keyword: str) -> list[Dataset]:
    """The items of a sequence; none where it is absent or damaged."""
    found = value(dataset, keyword)
    return list(found) if isinstance(found, Sequence) else []


def _regions_of(code: Dataset) -> frozenset[BodyRegion]:
    known = frozenset(_BY_CODE.get(text(code, "CodeValue"), ()))
    return known or regions_named(text(code, "CodeMeaning"))
