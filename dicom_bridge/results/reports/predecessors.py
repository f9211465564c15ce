"""The reports of earlier generations, to which a later one refers: Predecessor Documents (PS3.3 C.17.2.3)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset

from dicom_bridge.results.kinds import REPORT_FILE

_NAMED_BY = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")


def earlier_reports(jobs: Iterable[Path], image: str) -> list[Dataset]:
    """The UIDs of the reports that the latest earlier job made.

    Args:
        jobs: folders of the earlier jobs of the same series and route, latest first.
        image: folder of the image in the job's folder, for a series that holds several; where the earlier job has no
            such image, all its reports are meant.
    """
    for folder in jobs:
        files = [folder / image / REPORT_FILE]
        if not files[0].is_file():
            files = sorted(folder.glob(f"**/{REPORT_FILE}"))
        if files:
            return [pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(_NAMED_BY)) for file in files]
    return []
