"""What anatomy allows: whether a target can lie in an image, and whether its region can be what it is said to be.

Weights find organs in images that can't show them (a liver of -782 HU in a head). Nothing is called found before it was
held against the body region of the image and against the values that are possible for it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np

from rcmed.image import STANDARDISED_UPTAKE, Image
from rcmed.measurements import ATTENUATION, MEAN, VOLUME, Measurement, written
from rcmed.vocabulary import BodyRegion, Target

# Along the body. A volume that is longer than a region shows the next one, too, whatever its header says.
_ALONG_THE_BODY = (
    *(BodyRegion.HEAD, BodyRegion.NECK, BodyRegion.CHEST, BodyRegion.ABDOMEN, BodyRegion.PELVIS, BodyRegion.LIMB),
)
LONGEST_REGION_MM = 400.0
_ML = {"cm3": 1.0, "mm3": 1e-3}


def regions_shown(image: Image) -> frozenset[BodyRegion] | None:
    """The body regions that an image shows: those that are told, and their neighbours where it is a long volume.

    None where nobody tells.
    """
    named = image.body_regions
    if not named or not image.is_volume or not (image.grid.in_millimetres and image.grid.in_patient_coordinates):
        return named
    # A box is as high as its three edges rise.
    if np.abs(image.grid.affine[2, :3] * image.grid.shape).sum() < LONGEST_REGION_MM:
        return named
    places = [place for place, region in enumerate(_ALONG_THE_BODY) if region in named]
    near = {max(0, place - 1) for place in places} | {min(len(_ALONG_THE_BODY) - 1, place + 1) for place in places}
    return named | {_ALONG_THE_BODY[place] for place in near}


def misplaced_because(target: Target, regions: Collection[BodyRegion] | None, are_seen: bool = False) -> str | None:
    """Why a target can't lie in an image of some body regions; None where it can, or where nobody tells.

    Args:
        target: what was found.
        regions: of the image.
        are_seen: whether the weights saw them in the image, and no header told them.
    """
    if not regions or not target.body_regions or target.body_regions & set(regions):
        return None
    image = f"an image that looks like {_in_words(regions)}" if are_seen else f"an image of {_in_words(regions)}"
    return f"{image} does not show {target.name} ({_in_words(target.body_regions)})"


def impossible_because(target: Target, measurements: Iterable[Measurement]) -> str | None:
    """Why a region can't be this target, by what was measured of it; None where it can."""
    for measured in measurements:
        if measured.code == ATTENUATION and measured.derivation == MEAN:
            bounds, value, unit = target.hounsfield, measured.value, measured.unit
        elif measured.unit == STANDARDISED_UPTAKE and measured.derivation == MEAN:
            bounds, value, unit = target.uptake, measured.value, measured.unit
        elif measured.code == VOLUME and target.largest_ml is not None and measured.unit in _ML:
            bounds, value, unit = (0.0, target.largest_ml), measured.value * _ML[measured.unit], "mL"
        else:
            continue
        if bounds is not None and not bounds[0] <= value <= bounds[1]:
            limits = f"{bounds[0]:g} to {bounds[1]:g}"
            return f"{measured.name} {written(value, unit)} is not possible for {target.name} ({limits})"
    return None


def _in_words(regions: Collection[BodyRegion]) -> str:
    return ", ".join(region.value for region in BodyRegion if region in regions)
