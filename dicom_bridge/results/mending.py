"""A source's header, brought into a form on which a valid result can be built."""

from __future__ import annotations

import re
from pathlib import Path

from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import JPEG2000, UID, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless

# Type 2 in the Patient and General Study modules (PS3.3 C.7.1.1, C.7.2.1): present, though they may be empty.
_TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyID",
)
_LOSSY_METHODS = {
    JPEGBaseline8Bit: "ISO_10918_1",
    JPEGExtended12Bit: "ISO_10918_1",
    JPEGLSNearLossless: "ISO_14495_1",
    JPEG2000: "ISO_15444_1",
}
# JPEG 2000 (…91) may hold a reversible stream; only these are lossy whatever the file says.
_ALWAYS_LOSSY = {JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless}


def mend(header: Dataset, path: Path) -> None:
    """Bring a header that was just read into a form on which a valid result can be built; works in place."""
    header.decode()
    # After decoding every text is Unicode, and an empty or odd character set must not reach the result.
    header.SpecificCharacterSet = "ISO_IR 192"
    for element in list(header):
        if element.VR == "TM" and isinstance(element.value, str) and ":" in element.value:
            element.value = element.value.replace(":", "")
        elif element.VR == "DA" and isinstance(element.value, str) and "." in element.value:
            element.value = element.value.replace(".", "")
    for keyword in ("StudyDate", "PatientBirthDate"):
        if not re.fullmatch(r"\d{8}", str(header.get(keyword) or "")):
            setattr(header, keyword, "")
    if not re.fullmatch(r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?", str(header.get("StudyTime") or "").strip()):
        header.StudyTime = ""
    if str(header.get("PatientSex") or "") not in ("M", "F", "O"):
        header.PatientSex = ""
    for keyword in _TYPE_2:
        if keyword not in header:
            setattr(header, keyword, "")
    _mend_lossy(header, path)


def _mend_lossy(header: Dataset, path: Path) -> None:
    """A result of a lossy source says so, with ratio and method (PS3.3 C.7.6.1.1.5)."""
    syntax = UID(header.file_meta.get("TransferSyntaxUID", "")) if isinstance(header, FileDataset) else UID("")
    if syntax in _ALWAYS_LOSSY:
        header.LossyImageCompression = "01"
    if header.get("LossyImageCompression") != "01":
        header.LossyImageCompression = "00"
        for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
            if keyword in header:
                delattr(header, keyword)
        return
    if not header.get("LossyImageCompressionRatio"):
        frames = int(header.get("NumberOfFrames") or 1)
        samples = int(header.get("SamplesPerPixel") or 1)
        size = frames * samples * int(header.get("Rows") or 0) * int(header.get("Columns") or 0)
        size *= int(header.get("BitsAllocated") or 8) // 8
        # The size of the file stands for the size of its stream: what is told is an approximation anyway.
        header.LossyImageCompressionRatio = f"{max(1.0, size / max(1, path.stat().st_size)):.2f}"
    if not header.get("LossyImageCompressionMethod"):
        if syntax in _LOSSY_METHODS:
            header.LossyImageCompressionMethod = _LOSSY_METHODS[syntax]
        elif "LossyImageCompressionMethod" in header:
            del header.LossyImageCompressionMethod
