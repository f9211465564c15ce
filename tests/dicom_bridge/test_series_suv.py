"""PET pixels become SUV by body weight where the header tells all that it takes, and stay as they are where not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, PositronEmissionTomographyImageStorage, generate_uid

from dicom_bridge.series.images import read_series
from rcmed.image import STANDARDISED_UPTAKE, UNKNOWN_UNIT, Image
from rcmed.measurements import measure


def pet(change: Callable[[Dataset], None] = lambda _: None) -> Dataset:
    """One slice of 100 and 200 Bq/ml: 80 kg, 4 half lives of gallium 68 after 16 MBq, so 80,000 g / 1 MBq."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = PositronEmissionTomographyImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["pet"])
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3", "1.2.3.4"
    dataset.Modality, dataset.Units, dataset.DecayCorrection = "PT", "BQML", "START"
    dataset.CorrectedImage = ["ATTN", "DECY"]
    dataset.SeriesDate = dataset.AcquisitionDate = "20260101"
    dataset.SeriesTime, dataset.AcquisitionTime = "120000", "120500"
    dataset.PatientWeight = 80
    tracer = Dataset()
    tracer.RadiopharmaceuticalStartTime = "072909.6"
    tracer.RadionuclideTotalDose, tracer.RadionuclideHalfLife = 16e6, "4062.6"
    dataset.RadiopharmaceuticalInformationSequence = [tracer]
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = 2, 2, 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    dataset.RescaleSlope, dataset.RescaleIntercept = 10, 0
    dataset.WindowCenter, dataset.WindowWidth = 100, 200
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing, dataset.SliceThickness = [2, 2], 2
    dataset.PixelData = np.array([[10, 20], [10, 10]], dtype="<u2").tobytes()
    change(dataset)
    return dataset


def read(dataset: Dataset, folder: Path) -> Image:
    folder.mkdir(parents=True, exist_ok=True)
    dataset.save_as(folder / "pet.dcm", enforce_file_format=True)
    (image,) = read_series([folder / "pet.dcm"]).images
    return image


def tracer_of(dataset: Dataset) -> Dataset:
    found: Dataset = dataset.RadiopharmaceuticalInformationSequence[0]
    return found


def test_by_hand(tmp_path: Path) -> None:
    image = read(pet(), tmp_path)
    assert image.pixels[0].tolist() == [[8.0, 16.0], [8.0, 8.0]] and image.pixels.dtype == np.float32
    assert image.unit == STANDARDISED_UPTAKE and image.window == (8.0, 16.0) and image.warnings == ()
    told = {each.name: each for each in measure(image.pixels > 8, image)}
    assert told["maximum SUV"].value == 16 and told["maximum SUV"].unit == "{SUVbw}g/ml"
    assert told["mean SUV"].value == 16


def test_a_dose_that_is_told_for_the_time_of_injection_is_not_decayed(tmp_path: Path) -> None:
    image = read(pet(lambda d: setattr(d, "DecayCorrection", "ADMIN")), tmp_path)
    assert image.pixels[0, 0, 0] == pytest.approx(100 * 80_000 / 16e6)


def test_over_midnight(tmp_path: Path) -> None:
    def change(dataset: Dataset) -> None:
        dataset.SeriesTime, dataset.AcquisitionTime = "010000", "010500"
        tracer_of(dataset).RadiopharmaceuticalStartTime = "202909.6"

    assert read(pet(change), tmp_path).pixels[0, 0, 0] == 8.0


def test_pixels_that_are_suv_already(tmp_path: Path) -> None:
    image = read(pet(lambda d: setattr(d, "Units", "GML")), tmp_path)
    assert image.pixels[0, 0, 1] == 200 and image.unit == STANDARDISED_UPTAKE


def without(keyword: str) -> Callable[[Dataset], None]:
    return lambda dataset: delattr(dataset, keyword)


@pytest.mark.parametrize(
    ("change", "tag"),
    [
        (without("PatientWeight"), "(0010,1030)"),
        (lambda d: setattr(d, "PatientWeight", 80_000), "(0010,1030)"),
        (without("RadiopharmaceuticalInformationSequence"), "(0054,0016)"),
        (lambda d: delattr(tracer_of(d), "RadionuclideTotalDose"), "(0018,1074)"),
        (lambda d: setattr(tracer_of(d), "RadionuclideTotalDose", 0), "(0018,1074)"),
        (lambda d: delattr(tracer_of(d), "RadionuclideHalfLife"), "(0018,1075)"),
        (lambda d: setattr(tracer_of(d), "RadionuclideHalfLife", 60), "(0018,1075)"),
        (lambda d: delattr(tracer_of(d), "RadiopharmaceuticalStartTime"), "(0018,1072)"),
        (lambda d: setattr(tracer_of(d), "RadiopharmaceuticalStartDateTime", "20251230080000"), "(0018,1078)"),
        (lambda d: setattr(d, "CorrectedImage", ["DECY"]), "(0028,0051)"),
        (lambda d: setattr(d, "Units", "CNTS"), "(0054,1001)"),
        (without("DecayCorrection"), "(0054,1102)"),
        (without("SeriesTime"), "(0008,0031)"),
        (lambda d: setattr(d, "AcquisitionTime", "110000"), "(0008,0032)"),
    ],
)
def test_what_is_missing_is_named_and_nothing_is_made_up(
    change: Callable[[Dataset], None], tag: str, tmp_path: Path
) -> None:
    image = read(pet(change), tmp_path)
    assert image.pixels[0, 0].tolist() == [100, 200] and image.unit is None
    assert len(image.warnings) == 1 and tag in image.warnings[0] and "no SUV" in image.warnings[0]
    assert [each.name for each in measure(image.pixels > 150, image)] == ["area", "longest diameter"]


@given(
    st.floats(3, 200), st.floats(0.05, 20), st.sampled_from((4062.6, 6586.2, 1221.8, 45724.0)), st.integers(2, 6 * 3600)
)
@pytest.mark.slow
def test_suv_grows_with_weight_and_time_and_falls_with_dose(
    tmp_path_factory: pytest.TempPathFactory, weight: float, dose_per_kg: float, half_life: float, seconds: int
) -> None:
    dose = weight * dose_per_kg * 1e6
    assume(seconds <= 4.5 * half_life and 1.01e6 <= dose)

    def change(dataset: Dataset) -> None:
        dataset.PatientWeight = f"{weight:.6g}"
        tracer = tracer_of(dataset)
        tracer.RadionuclideTotalDose, tracer.RadionuclideHalfLife = f"{dose:.6g}", f"{half_life:.6g}"
        at = 12 * 3600 - seconds
        tracer.RadiopharmaceuticalStartTime = f"{at // 3600:02d}{at // 60 % 60:02d}{at % 60:02d}"

    found = read(pet(change), tmp_path_factory.mktemp("pet")).pixels[0, 0, 0]
    wanted = 100 * float(f"{weight:.6g}") * 1000 / float(f"{dose:.6g}") * 2 ** (seconds / float(f"{half_life:.6g}"))
    assert found == pytest.approx(wanted, rel=1e-5)


def tracer_with(**values: object) -> Callable[[Dataset], None]:
    def change(dataset: Dataset) -> None:
        for keyword, told in values.items():
            setattr(tracer_of(dataset), keyword, told)

    return change


def nuclide(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


@pytest.mark.parametrize(
    ("change", "tag"),
    [
        # Other units: MBq, mCi, kBq, and too large by a thousand.
        (tracer_with(RadionuclideTotalDose=16), "(0018,1074)"),
        (tracer_with(RadionuclideTotalDose="0.43"), "(0018,1074)"),
        (tracer_with(RadionuclideTotalDose=370_000), "(0018,1074)"),
        (tracer_with(RadionuclideTotalDose=16e9), "(0018,1074)"),
        # Dose and weight each can be, but not together.
        (lambda d: (tracer_with(RadionuclideTotalDose=740e6)(d), setattr(d, "PatientWeight", 7)), "(0010,1030)"),
        (lambda d: (setattr(d, "PatientWeight", 8), setattr(d, "PatientSize", 1.75)), "(0010,1020)"),
        # Minutes, milliseconds, and another nuclide than the one that is named.
        (tracer_with(RadionuclideHalfLife="67.71"), "(0018,1075)"),
        (tracer_with(RadionuclideHalfLife="4062600"), "(0018,1075)"),
        (tracer_with(RadionuclideCodeSequence=[nuclide("C-111A1", "SRT", "^18^Fluorine")]), "(0018,1075)"),
        (tracer_with(Radiopharmaceutical="FDG -- fluorodeoxyglucose"), "(0018,1075)"),
        # The scale of the pixels.
        (without("RescaleSlope"), "(0028,1053)"),
        (lambda d: setattr(d, "RescaleIntercept", -1024), "(0028,1052)"),
        # A time without minutes, the time of the series, one after it, and one of another day.
        (tracer_with(RadiopharmaceuticalStartTime="07"), "(0018,1072)"),
        (tracer_with(RadiopharmaceuticalStartTime="120000"), "(0018,1072)"),
        (tracer_with(RadiopharmaceuticalStartTime="120100"), "(0018,1072)"),
        (tracer_with(RadiopharmaceuticalStartTime="", RadiopharmaceuticalStartDateTime="20260101"), "(0018,1072)"),
        (tracer_with(RadiopharmaceuticalStartDateTime="20251231072909"), "(0018,1078)"),
        (tracer_with(RadiopharmaceuticalStartDateTime="20260101062909"), "(0018,1078)"),
        (lambda d: setattr(d, "AcquisitionTime", "170000"), "(0008,0032)"),
        (lambda d: setattr(d, "AcquisitionDate", "20260102"), "(0008,0022)"),
        # A time zone that the series does not have, or has wrong.
        (
            lambda d: tracer_with(
                RadiopharmaceuticalStartTime="", RadiopharmaceuticalStartDateTime="20260101062909+0000"
            )(d),
            "(0008,0201)",
        ),
        (
            lambda d: (
                tracer_with(RadiopharmaceuticalStartTime="", RadiopharmaceuticalStartDateTime="20260101062909+0000")(d),
                setattr(d, "TimezoneOffsetFromUTC", "+9900"),
            ),
            "(0008,0201)",
        ),
        # Nothing alone is wrong, but no body holds it.
        (lambda d: setattr(d, "RescaleSlope", 10_000), "(0018,1074)"),
        (lambda d: setattr(d, "SliceThickness", 5e7), "(0018,1074)"),
    ],
)
def test_what_can_not_be_gives_no_suv(change: Callable[[Dataset], None], tag: str, tmp_path: Path) -> None:
    image = read(pet(change), tmp_path)
    assert image.unit in (None, UNKNOWN_UNIT) and image.pixels[0, 0, 1] in (20, 200, 200_000, -824)
    assert len(image.warnings) == 1 and tag in image.warnings[0] and "no SUV" in image.warnings[0]


@pytest.mark.parametrize(
    ("change", "half_lives"),
    [
        # The same moment in UTC, with the series' own offset; and by the same clock where the series has none.
        (
            lambda d: (
                tracer_with(RadiopharmaceuticalStartDateTime="20260101052909.6+0000")(d),
                setattr(d, "TimezoneOffsetFromUTC", "+0200"),
            ),
            4,
        ),
        (tracer_with(RadiopharmaceuticalStartDateTime="20260101072909.6-0500"), 4),
        # No time of day: the time alone counts.
        (tracer_with(RadiopharmaceuticalStartDateTime="20260101"), 4),
        # An offset that nothing needs.
        (lambda d: setattr(d, "TimezoneOffsetFromUTC", "odd"), 4),
        # Over midnight UTC.
        (
            lambda d: (
                tracer_with(RadiopharmaceuticalStartTime="", RadiopharmaceuticalStartDateTime="20251231222909.6+0000")(
                    d
                ),
                setattr(d, "TimezoneOffsetFromUTC", "+0900"),
            ),
            4,
        ),
        (tracer_with(RadionuclideCodeSequence=[nuclide("35337001", "SCT", "^68^Gallium")]), 4),
        (tracer_with(Radiopharmaceutical="[68Ga]Ga-DOTATATE"), 4),
        # A height in centimetres is not needed.
        (lambda d: setattr(d, "PatientSize", 175), 4),
        # A dynamic series may be begun with the injection.
        (
            lambda d: (
                tracer_with(RadiopharmaceuticalStartTime="120000")(d),
                setattr(d, "SeriesType", ["DYNAMIC", "IMAGE"]),
            ),
            0,
        ),
        # Cut to whole seconds, an acquisition begins before its series.
        (lambda d: (setattr(d, "SeriesTime", "120000.5"), setattr(d, "AcquisitionTime", "120000")), 4),
    ],
)
def test_what_adds_up_is_taken(change: Callable[[Dataset], None], half_lives: int, tmp_path: Path) -> None:
    image = read(pet(change), tmp_path)
    assert image.warnings == () and image.unit == STANDARDISED_UPTAKE
    assert image.pixels[0, 0, 0] == pytest.approx(0.5 * 2**half_lives, rel=1e-3)


def test_a_slip_that_suv_in_the_file_does_not_need_costs_nothing(tmp_path: Path) -> None:
    def change(dataset: Dataset) -> None:
        dataset.Units, dataset.PatientWeight = "GML", "0.08"
        tracer_of(dataset).RadionuclideTotalDose = 16

    image = read(pet(change), tmp_path)
    assert image.unit == STANDARDISED_UPTAKE and image.warnings == ()
