"""DICOM's modalities and SOP classes to the nine modalities that RCMed knows."""

from __future__ import annotations

from pydicom.uid import UID

from dicom_bridge.errors import UnsuitablePixelsError
from dicom_bridge.series.headers.instance import Instance, shown, text
from rcmed.modality import Modality

# Modality (0008,0060), defined terms of PS3.3 C.7.3.1.1.1.
BY_MODALITY = {
    "CT": Modality.CT,
    "MR": Modality.MR,
    "PT": Modality.PET,
    **dict.fromkeys(("CR", "DX", "MG", "XA", "RF", "IO", "PX", "RTIMAGE"), Modality.X_RAY),
    **dict.fromkeys(("US", "IVUS", "BDUS"), Modality.ULTRASOUND),
    **dict.fromkeys(("SM", "GM"), Modality.PATHOLOGY),
    **dict.fromkeys(("XC", "DMS"), Modality.DERMOSCOPY),
    "ES": Modality.ENDOSCOPY,
    **dict.fromkeys(("OP", "OPT", "OPTENF", "OPTBSV", "OPM"), Modality.FUNDUS),
}

# Of the kind of one of the nine, but not what the weights learned it from: read, and said.
_NEARBY = {
    "MG": "mammography, of which the weights saw none (chest radiographs)",
    "XA": "angiography, of which the weights saw none (chest radiographs)",
    "RF": "fluoroscopy, of which the weights saw none (chest radiographs)",
    "IO": "intra-oral radiography, of which the weights saw none (chest radiographs)",
    "PX": "panoramic radiography, of which the weights saw none (chest radiographs)",
    "RTIMAGE": "a radiotherapy image, of which the weights saw none (chest radiographs)",
    "XC": "a photograph by an external camera, of which the weights saw none (dermoscopy)",
}
_GREY_FUNDUS = "a grey photograph of the eye (infrared, red-free, angiography), of which the weights saw none (colour)"

# Like none of the nine, though a word of theirs is in the name: nothing is looked for unless the user decides.
_UNSEEN = {
    "OPT": "optical coherence tomography, sections through the retina and no photograph of it",
    "OPTENF": "en face optical coherence tomography, no photograph of the retina",
    "OPTBSV": "an analysis of optical coherence tomography, no photograph of the retina",
    "OPM": "a map of the eye, no photograph",
    **dict.fromkeys(("OCT", "IVOCT"), "optical coherence tomography, of vessels or other organs"),
    "IVUS": "intravascular ultrasound, seen from within the vessel",
    "BDUS": "ultrasound that measures bone density",
    "CFM": "confocal microscopy",
    **dict.fromkeys(("TG", "DG", "BI", "LS", "EC"), "of none of the nine modalities"),
}
_UNSEEN_SOP_CLASS = {
    "77.1.5.4": "OPT",
    "77.1.5.7": "OPTENF",
    "77.1.5.8": "OPTBSV",
    "81.1": "OPM",
    "14": "IVOCT",
    "13.1.1": "X-ray 3D angiography, a volume without HU",
    "13.1.2": "X-ray 3D craniofacial imaging, a volume without HU",
}

# SOP classes below 1.2.840.10008.5.1.4.1.1. that say more than a Modality that is absent or OT; longest first.
_STORAGE = "1.2.840.10008.5.1.4.1.1."
BY_SOP_CLASS = {
    "77.1.1": Modality.ENDOSCOPY,
    "77.1.2": Modality.PATHOLOGY,
    "77.1.3": Modality.PATHOLOGY,
    "77.1.4": Modality.DERMOSCOPY,
    "77.1.5": Modality.FUNDUS,
    "77.1.6": Modality.PATHOLOGY,
    "77.1.7": Modality.DERMOSCOPY,
    "128": Modality.PET,
    "130": Modality.PET,
    "1": Modality.X_RAY,
    "12": Modality.X_RAY,
    "13.1": Modality.X_RAY,
    "2": Modality.CT,
    "3": Modality.ULTRASOUND,
    "4": Modality.MR,
    "6": Modality.ULTRASOUND,
}


# What their numbers mean differs, so that to take one for another makes wrong ones.
_VALUES_DIFFER = {Modality.CT, Modality.MR, Modality.PET}


def modality_of(instance: Instance, wanted: Modality | None) -> tuple[Modality, str | None]:
    """The modality of an instance, and a warning where it is only like one of the nine, or had to be assumed.

    Modality (0008,0060) counts first, then the SOP class, then `wanted`. Nuclear medicine is read as PET, the nearest
    of the nine. What still does not say (a secondary capture with Modality OT) is read as dermoscopy where coloured
    and as x_ray where grey, with a warning: only the choice of model words depends on it, not the pixels. Of what the
    weights never saw (`unlearned_kind`) `wanted` decides.

    Raises:
        UnsuitablePixelsError: Modality and SOP class contradict each other, and `wanted` does not decide.
    """
    term = text(instance.header, "Modality")
    by_class = _by_sop_class(instance)
    unlearned = unlearned_kind(instance)
    if wanted is not None and unlearned is not None:
        return wanted, f"{instance.path}: {unlearned}; read as {wanted}, as was asked"
    if term in BY_MODALITY:
        modality = BY_MODALITY[term]
        if by_class is not None and by_class is not modality and {by_class, modality} <= _VALUES_DIFFER:
            contradiction = (
                f"{instance.path}: Modality (0008,0060) is {term}, but SOP Class UID (0008,0016) is "
                f"{UID(instance.uid('SOPClassUID')).name}"
            )
            if wanted is None:
                raise UnsuitablePixelsError(f"{contradiction}; mend one of them, or use rcmed find --modality")
            return wanted, f"{contradiction}; read as {wanted}, as was asked"
        return modality, _nearby(instance, term, modality)
    if by_class is not None:
        return by_class, _nearby(instance, "", by_class)
    if wanted is not None:
        return wanted, None
    if term == "NM":
        return Modality.PET, f"{instance.path}: nuclear medicine is read as pet; rcmed find --modality chooses another"
    assumed = Modality.DERMOSCOPY if instance.is_colour else Modality.X_RAY
    said = f"is {shown(term)}" if term else "is missing"
    return (
        assumed,
        f"{instance.path}: Modality (0008,0060) {said}; read as {assumed}, rcmed find --modality chooses another",
    )


def unlearned_kind(instance: Instance) -> str | None:
    """What an object is where the weights never saw its like, so that they can't tell anything of it; else None."""
    kind = _sop_kind(instance)
    for prefix, found in _UNSEEN_SOP_CLASS.items():
        if kind == prefix or kind.startswith(prefix + "."):
            return f"SOP Class UID (0008,0016) is {UID(instance.uid('SOPClassUID')).name}: {_UNSEEN.get(found, found)}"
    term = text(instance.header, "Modality")
    return f"Modality (0008,0060) is {term}: {_UNSEEN[term]}" if term in _UNSEEN else None


def _sop_kind(instance: Instance) -> str:
    """What stands behind the root of the storage classes; "" of a private class, whose numbers mean something else."""
    sop_class = instance.uid("SOPClassUID")
    return sop_class.removeprefix(_STORAGE) if sop_class.startswith(_STORAGE) else ""


def _by_sop_class(instance: Instance) -> Modality | None:
    kind = _sop_kind(instance)
    return next(
        (found for prefix, found in BY_SOP_CLASS.items() if kind == prefix or kind.startswith(prefix + ".")), None
    )


def _nearby(instance: Instance, term: str, modality: Modality) -> str | None:
    if unlearned_kind(instance) is not None:
        return None  # said with the reason why nothing is looked for
    if modality is Modality.FUNDUS and not instance.is_colour:
        return f"{instance.path}: {_GREY_FUNDUS}; read as {modality}"
    if term in _NEARBY:
        return f"{instance.path}: Modality (0008,0060) is {term}, {_NEARBY[term]}; read as {modality}"
    return None
