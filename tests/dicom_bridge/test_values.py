"""Values of other systems are read as what they can only mean, and never as anything else."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.valuerep import DSfloat, validate_value

from dicom_bridge.value_representation import of_representation, written_name

REPRESENTATIONS = ("DA", "TM", "DT", "AS", "DS", "IS", "PN", "CS", "AE", "UI", "SH", "LO", "ST", "LT", "US")


@pytest.mark.parametrize(
    ("vr", "value", "read"),
    [
        ("DA", "20240229", "20240229"),
        ("DA", "2024-02-29", "20240229"),
        ("DA", "2024.02/29", None),
        ("DA", "20230229", None),
        ("DA", "00950724", None),
        ("DA", "240102", None),
        ("TM", "23", "23"),
        ("TM", "10:05", "1005"),
        ("TM", "101112.12345678", "101112.123456"),
        ("TM", "246161", None),
        ("TM", "1", None),
        ("DT", "202401", "202401"),
        ("DT", "20240102101112.5+0100", "20240102101112.5+0100"),
        ("DT", "20241", None),
        ("DT", "2024010224", None),
        ("AS", "7Y", "007Y"),
        ("AS", "030m", "030M"),
        ("AS", "***", None),
        ("AS", "24", None),
        ("DS", " 1.5 ", "1.5"),
        ("DS", "5,0", None),
        ("DS", "N/A", None),
        ("DS", "1e999", None),
        ("IS", "3.0", 3),
        ("IS", "14.5", None),
        ("IS", "99999999999", None),
        ("US", "70000", None),
        ("CS", "axial", "AXIAL"),
        ("CS", "a-b", None),
        ("PN", "A^B", "A^B"),
        ("PN", "A\\B", None),
        ("PN", "a=b=c=d", None),
        ("UI", "1.2.03", None),
        ("UI", "999.1", None),
        ("UI", "2.25.7", "2.25.7"),
        ("LO", "a\nb", "a b"),
        ("ST", "a\nb", "a\nb"),
        ("LO", "CT\\abdomen", None),
        ("SH", "", None),
        ("SQ", "x", None),
    ],
)
def test_what_is_read(vr: str, value: str, read: Any) -> None:
    assert of_representation(vr, value) == read


def test_what_identifies_is_not_cut() -> None:
    assert of_representation("SH", "x" * 17) == "x" * 16
    assert of_representation("SH", "x" * 17, may_be_cut=False) is None


@given(st.sampled_from(REPRESENTATIONS), st.text(max_size=80) | st.from_regex(r"[0-9.:\-+YMDe ]{0,20}", fullmatch=True))
def test_whatever_is_read_is_valid_and_read_again_as_itself(vr: str, value: str) -> None:
    read = of_representation(vr, value)
    if read is not None:
        written = str(read) if vr == "IS" else read
        validate_value(vr, written, 2)  # pydicom raises where it is not valid
        assert of_representation(vr, written) == read


@given(st.dates(min_value=datetime.date(1583, 1, 1)))
def test_every_day_is_read(day: datetime.date) -> None:
    assert of_representation("DA", day.strftime("%Y-%m-%d").zfill(10)) == day.strftime("%Y%m%d").zfill(8)


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_every_decimal_is_read(number: float) -> None:
    read = of_representation("DS", str(DSfloat(number, auto_format=True)))
    assert float(str(read)) == pytest.approx(number, rel=1e-6, abs=1e-30)


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("Doe^Jane", "Doe, Jane"),
        ("Adams^John Robert Quincy^^Rev.^B.A. M.Div.", "Adams, Rev. John Robert Quincy, B.A. M.Div."),
        ("Doe", "Doe"),
        ("=山田^太郎=やまだ^たろう", "山田, 太郎"),
        ("^^=^", ""),
    ],
)
def test_a_name_is_written_as_people_do(name: str, written: str) -> None:
    assert written_name(name) == written
