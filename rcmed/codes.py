"""Coded concepts: what vocabulary, measurements and findings are named by."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Code:
    """A coded concept (DICOM PS3.3 8.8): value, coding scheme designator ("SCT", "DCM", "99RCMED"), meaning."""

    value: str
    scheme: str
    meaning: str
