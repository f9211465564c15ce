"""Standardised uptake values of a PET series, by body weight.

SUVbw = activity concentration x body weight / dose, with the dose decayed to the time that the pixels were decayed to
(QIBA profile FDG-PET/CT, appendix G; PS3.3 C.8.9.1 and C.8.9.2). Where anything is missing or unclear the pixels stay
as they are, with the reason: a wrong SUV is worse than none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.valuerep import DA, DT, TM

from dicom_bridge.series.instance import Instance, numbers, shown, text, value
from rcmed.image import STANDARDISED_UPTAKE, Image

_GRAMS_PER_KILOGRAM = 1000.0
# A tracer is imaged within hours; more is a wrong clock or a study over midnight whose date is missing.
_LONGEST_UPTAKE = timedelta(hours=24)
# By then a millionth of the dose is left, of which nobody makes a picture.
_MOST_HALF_LIVES = 20
# Heavier or lighter is a slip of the keyboard, often grams or pounds.
_WEIGHTS_KG = (1.0, 400.0)


class NoUptakeError(Exception):
    """Why no SUV can be computed; the text names the tag."""


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
    except NoUptakeError as error:
        unit = shown(text(instances[0].header, "Units")) or "units that are not told"
        note = f"{name}: pixels stay in {unit}, no SUV: {error}"
        return [replace(image, warnings=(*image.warnings, note)) for image in images]
    factor = factors.pop()
    return [
        replace(
            image,
            pixels=(image.pixels.astype(np.float64) * factor).astype(np.float32),
            window=None if image.window is None else (image.window[0] * factor, image.window[1] * factor),
            unit=STANDARDISED_UPTAKE,
        )
        for image in images
    ]


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
    weight = _number(header, "PatientWeight", "Patient's Weight (0010,1030)")
    if not _WEIGHTS_KG[0] <= weight <= _WEIGHTS_KG[1]:
        raise NoUptakeError(f"Patient's Weight (0010,1030) of {weight:g} kg can't be right")
    tracers = _many(header, "RadiopharmaceuticalInformationSequence")
    if len(tracers) != 1:
        raise NoUptakeError(f"Radiopharmaceutical Information Sequence (0054,0016) has {len(tracers)} items")
    dose = _number(tracers[0], "RadionuclideTotalDose", "Radionuclide Total Dose (0018,1074)")
    correction = text(header, "DecayCorrection")
    if correction == "ADMIN":
        return weight * _GRAMS_PER_KILOGRAM / dose
    if correction != "START":
        raise NoUptakeError("Decay Correction (0054,1102) is neither START nor ADMIN")
    half_life = _number(tracers[0], "RadionuclideHalfLife", "Radionuclide Half Life (0018,1075)")
    uptake = _uptake_time(header, tracers[0])
    if uptake.total_seconds() > _MOST_HALF_LIVES * half_life:
        raise NoUptakeError("Radionuclide Half Life (0018,1075) is far too short for the time since the injection")
    return weight * _GRAMS_PER_KILOGRAM / (dose * 2.0 ** (-uptake.total_seconds() / half_life))


def _uptake_time(header: Dataset, tracer: Dataset) -> timedelta:
    """From the injection to the time that the pixels were decayed to."""
    scanned = _moment(header, "SeriesDate", "SeriesTime")
    if scanned is None:
        raise NoUptakeError("Series Date or Time (0008,0021), (0008,0031) is missing")
    acquired = _moment(header, "AcquisitionDate", "AcquisitionTime")
    if acquired is not None and acquired < scanned:
        # Someone has written the series anew, later: its time no longer tells when it was begun.
        raise NoUptakeError("Series Time (0008,0031) is later than Acquisition Time (0008,0032)")
    whole = text(tracer, "RadiopharmaceuticalStartDateTime")
    try:
        if whole:
            injected: datetime = DT(whole).replace(tzinfo=None)
        else:
            time = text(tracer, "RadiopharmaceuticalStartTime")
            injected = datetime.combine(scanned.date(), TM(time))
            if injected > scanned:
                injected -= timedelta(days=1)  # over midnight: the tag has no date
    except (TypeError, ValueError, AttributeError):
        raise NoUptakeError("Radiopharmaceutical Start Time (0018,1072) is missing or no time") from None
    uptake = scanned - injected
    if not timedelta(0) <= uptake <= _LONGEST_UPTAKE:
        raise NoUptakeError("Radiopharmaceutical Start DateTime (0018,1078) does not go with Series Time (0008,0031)")
    return uptake


def _moment(header: Dataset, date: str, time: str) -> datetime | None:
    try:
        return datetime.combine(DA(text(header, date)), TM(text(header, time)))
    except (TypeError, ValueError, AttributeError):
        return None


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
