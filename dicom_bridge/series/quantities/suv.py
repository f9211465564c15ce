"""Standardised uptake values of a PET series, by body weight.

SUVbw = activity concentration x body weight / dose, with the dose decayed to the time that the pixels were decayed to
(QIBA profile FDG-PET/CT, appendix G; PS3.3 C.8.9.1 and C.8.9.2). Where anything is missing, unclear or can't be, alone
or together with the rest, the pixels stay as they are, with the reason: a wrong SUV is worse than none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from pydicom import Dataset

from dicom_bridge.series.headers.instance import Instance, numbers, shown, text, value
from dicom_bridge.series.quantities.radionuclides import named_nuclide, odd_half_life
from dicom_bridge.series.quantities.uptake_time import NoUptakeError, uptake_time
from rcmed.image import STANDARDISED_UPTAKE, Image

_GRAMS_PER_KILOGRAM = 1000.0
_CUBIC_MILLIMETRES_PER_MILLILITRE = 1000.0
# Heavier or lighter is a slip of the keyboard, often grams.
_WEIGHTS_KG = (1.0, 400.0)
# kg/m2; a slip of either is farther off. Heights that can't be are not asked: the SUV does not need them.
_BODY_MASS_INDICES = (7.0, 120.0)
_HEIGHTS_M = (0.3, 2.5)
# From what an infant gets to rubidium for a heart of two; 370 are MBq, 10 are mCi, 370000 are kBq.
_DOSES_BQ = (1e6, 5e9)
# From long scanners of the whole body to water with oxygen 15, of which a picture takes seconds.
_DOSES_BQ_PER_KG = (2e4, 1e8)
# Urine of a kidney or bladder reaches some hundred.
_HIGHEST_SUV = 1000.0
# No volume of a living body is without blood.
_LOWEST_MAXIMUM = 0.05
# Of what was injected no more than all can be in the picture; scanners err by a tenth, noise adds.
_MOST_OF_THE_DOSE = 1.3


def in_uptake_values(images: Sequence[Image], instances: Sequence[Instance], name: str) -> list[Image]:
    """The images with pixels in g/ml SUVbw, float32; else as they are, with a warning that says why.

    Args:
        images: of one series, PET.
        instances: that they were read from.
        name: of the series, for the warning.
    """
    if text(instances[0].header, "Modality") != "PT":
        return list(images)
    try:
        factors = {round(_factor(instance.header), 12) for instance in instances}
        if len(factors) > 1:
            raise NoUptakeError("dose, weight or Series Time (0008,0031) differ between its instances")
        factor = factors.pop()
        standardised = [_standardised(image, factor) for image in images]
        for image in standardised:
            _require_possible(image, numbers(instances[0].header, "PatientWeight", 1))
    except NoUptakeError as error:
        unit = shown(text(instances[0].header, "Units")) or "units that are not told"
        note = f"{name}: pixels stay in {unit}, no SUV: {error}"
        return [replace(image, warnings=(*image.warnings, note)) for image in images]
    return standardised


def _standardised(image: Image, factor: float) -> Image:
    return replace(
        image,
        pixels=(image.pixels.astype(np.float64) * factor).astype(np.float32),
        window=None if image.window is None else (image.window[0] * factor, image.window[1] * factor),
        unit=STANDARDISED_UPTAKE,
    )


def _require_possible(image: Image, weight: tuple[float, ...] | None) -> None:
    """Judge the SUV itself: what goes in can be plausible each by each, and still not be right together."""
    causes = (
        "Radionuclide Total Dose (0018,1074), Patient's Weight (0010,1030), Radiopharmaceutical Start Time (0018,1072) "
        "or Rescale Slope (0028,1053) can't be right"
    )
    found = image.pixels[np.isfinite(image.pixels)]
    highest = float(found.max()) if len(found) else 0.0
    if highest > _HIGHEST_SUV or (image.is_volume and highest < _LOWEST_MAXIMUM):
        raise NoUptakeError(f"the highest SUV would be {highest:.3g}: {causes}")
    # Of pixels that are SUV already the weight is not needed, and a slip in it proves nothing.
    if weight is not None and _WEIGHTS_KG[0] <= weight[0] <= _WEIGHTS_KG[1] and image.grid.in_millimetres:
        millilitres = image.grid.voxel_volume / _CUBIC_MILLIMETRES_PER_MILLILITRE
        part = float(found.sum(dtype=np.float64)) * millilitres / (weight[0] * _GRAMS_PER_KILOGRAM)
        if part > _MOST_OF_THE_DOSE:
            raise NoUptakeError(f"the picture would hold {part:.3g} times what was injected: {causes}")


def _factor(header: Dataset) -> float:
    """From the unit of the pixels to g/ml."""
    units = text(header, "Units")
    if units == "GML":
        if text(header, "SUVType") not in ("", "BW"):
            raise NoUptakeError(f"SUV Type (0054,1006) is {shown(text(header, 'SUVType'))}, not BW")
        return 1.0
    if units != "BQML":
        raise NoUptakeError("Units (0054,1001) is neither BQML nor GML")
    corrected = [str(each) for each in _many(header, "CorrectedImage")]
    for needed in ("ATTN", "DECY"):
        if needed not in corrected:
            raise NoUptakeError(f"Corrected Image (0028,0051) lacks {needed}")
    _require_scale(header)
    weight = _weight(header)
    tracers = _many(header, "RadiopharmaceuticalInformationSequence")
    if len(tracers) != 1:
        raise NoUptakeError(f"Radiopharmaceutical Information Sequence (0054,0016) has {len(tracers)} items")
    dose = _dose(tracers[0], weight)
    correction = text(header, "DecayCorrection")
    if correction == "ADMIN":
        return weight * _GRAMS_PER_KILOGRAM / dose
    if correction != "START":
        raise NoUptakeError("Decay Correction (0054,1102) is neither START nor ADMIN")
    half_life = _number(tracers[0], "RadionuclideHalfLife", "Radionuclide Half Life (0018,1075)")
    odd = odd_half_life(half_life, named_nuclide(tracers[0]))
    if odd is not None:
        raise NoUptakeError(f"Radionuclide Half Life (0018,1075) {odd}")
    uptake = uptake_time(header, tracers[0], half_life)
    return weight * _GRAMS_PER_KILOGRAM / (dose * 2.0 ** (-uptake.total_seconds() / half_life))


def _require_scale(header: Dataset) -> None:
    """PET is stored scaled, and from zero (PS3.3 C.8.9.4): without a slope its numbers are not what Units says."""
    _number(header, "RescaleSlope", "Rescale Slope (0028,1053)")
    intercept = numbers(header, "RescaleIntercept", 1)
    if intercept is not None and intercept[0] != 0:
        raise NoUptakeError(f"Rescale Intercept (0028,1052) of {intercept[0]:g} can't be right in PET, where it is 0")


def _weight(header: Dataset) -> float:
    weight = _number(header, "PatientWeight", "Patient's Weight (0010,1030)")
    if not _WEIGHTS_KG[0] <= weight <= _WEIGHTS_KG[1]:
        raise NoUptakeError(f"Patient's Weight (0010,1030) of {weight:g} kg can't be right")
    size = numbers(header, "PatientSize", 1)
    if size is not None and _HEIGHTS_M[0] <= size[0] <= _HEIGHTS_M[1]:
        index = weight / size[0] ** 2
        if not _BODY_MASS_INDICES[0] <= index <= _BODY_MASS_INDICES[1]:
            raise NoUptakeError(
                f"Patient's Weight (0010,1030) of {weight:g} kg does not go with Patient's Size (0010,1020) of "
                f"{size[0]:g} m"
            )
    return weight


def _dose(tracer: Dataset, weight: float) -> float:
    called = "Radionuclide Total Dose (0018,1074)"
    dose = _number(tracer, "RadionuclideTotalDose", called)
    if not _DOSES_BQ[0] <= dose <= _DOSES_BQ[1]:
        raise NoUptakeError(f"{called} of {dose:g} Bq can't be right; it is to be in Bq, not MBq or mCi")
    if not _DOSES_BQ_PER_KG[0] <= dose / weight <= _DOSES_BQ_PER_KG[1]:
        raise NoUptakeError(
            f"{called} of {dose:g} Bq does not go with Patient's Weight (0010,1030) of {weight:g} kg: "
            f"{dose / weight / 1e6:.3g} MBq/kg"
        )
    return dose


def _number(header: Dataset, keyword: str, called: str) -> float:
    found = numbers(header, keyword, 1)
    if not found or not np.isfinite(found[0]) or found[0] <= 0:
        raise NoUptakeError(f"{called} is missing or not above 0")
    return float(found[0])


def _many(header: Dataset, keyword: str) -> list[Any]:
    found = value(header, keyword)
    if found is None:
        return []
    return [found] if isinstance(found, str | Dataset) else list(found)
