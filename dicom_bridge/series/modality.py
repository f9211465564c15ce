"""DICOM's modalities and SOP classes to the nine modalities that RCMed knows."""

from __future__ import annotations

from dicom_bridge.series.instance import Instance, shown, text
from rcmed.image import Modality

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
    **dict.fromkeys(("OP", "OPT", "OPTENF"), Modality.FUNDUS),
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
    "2": Modality.CT,
    "3": Modality.ULTRASOUND,
    "4": Modality.MR,
    "6": Modality.ULTRASOUND,
}


def modality_of(instance: Instance, wanted: Modality | None) -> tuple[Modality, str | None]:
    """The modality of an instance, and a warning where it had to be assumed.

    Modality (0008,0060) counts first, then the SOP class, then `wanted`. Nuclear medicine is read as PET, the nearest
    of the nine. What still does not say (a secondary capture with Modality OT) is read as dermoscopy where coloured
    and as x_ray where grey, with a warning: only the choice of model words depends on it, not the pixels.
    """
    term = text(instance.header, "Modality")
    if term in BY_MODALITY:
        return BY_MODALITY[term], None
    kind = instance.uid("SOPClassUID").removeprefix(_STORAGE)
    for prefix, modality in BY_SOP_CLASS.items():
        if kind == prefix or kind.startswith(prefix + "."):
            return modality, None
    if wanted is not None:
        return wanted, None
    if term == "NM":
        return Modality.PET, f"{instance.path}: nuclear medicine is read as pet; give --modality to choose another"
    assumed = Modality.DERMOSCOPY if instance.is_colour else Modality.X_RAY
    said = f"is {shown(term)}" if term else "is missing"
    return (
        assumed,
        f"{instance.path}: Modality (0008,0060) {said}; read as {assumed}, give --modality to choose another",
    )
