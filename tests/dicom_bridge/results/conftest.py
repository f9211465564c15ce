"""A second reader of SEG that shares no code with the product."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset


def _bits(dataset: Dataset) -> NDArray[np.bool_]:
    """Frames of a bit-packed PixelData (PS3.5 8.1.1): the first pixel is the lowest bit of the first byte."""
    count = int(dataset.NumberOfFrames) * dataset.Rows * dataset.Columns
    packed = np.frombuffer(dataset.PixelData, dtype=np.uint8)
    flat = ((packed[:, None] >> np.arange(8)) & 1).astype(bool).ravel()[:count]
    return flat.reshape(int(dataset.NumberOfFrames), dataset.Rows, dataset.Columns)


class SecondReader:
    """Reads a SEG by the standard's words and numpy alone."""

    def frames(self, path: Path) -> Iterator[tuple[int, Dataset, NDArray[np.bool_]]]:
        """(segment number, functional groups of the frame, pixels) for each frame."""
        dataset = dcmread(path)
        shared = dataset.SharedFunctionalGroupsSequence[0]
        for group, pixels in zip(dataset.PerFrameFunctionalGroupsSequence, _bits(dataset), strict=True):
            merged = Dataset()
            merged.update(shared)
            merged.update(group)
            yield int(merged.SegmentIdentificationSequence[0].ReferencedSegmentNumber), merged, pixels

    def points(self, path: Path, segment: int) -> NDArray[np.float64]:
        """Patient coordinates (point, 3) in LPS mm of the segment's voxels, by PS3.3 equation C.7.6.2.1-1."""
        points = [np.empty((0, 3))]
        for number, groups, pixels in self.frames(path):
            if number != segment:
                continue
            position = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
            cosines = np.array(groups.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float)
            between_rows, between_columns = (float(x) for x in groups.PixelMeasuresSequence[0].PixelSpacing)
            row, column = np.nonzero(pixels)
            points.append(
                position + column[:, None] * cosines[:3] * between_columns + row[:, None] * cosines[3:] * between_rows
            )
        return np.concatenate(points)

    def by_reference(self, path: Path, segment: int) -> dict[tuple[str, int | None], NDArray[np.bool_]]:
        """Pixels of a segment by the source instance and frame that each frame refers to."""
        planes = {}
        for number, groups, pixels in self.frames(path):
            if number == segment:
                item = groups.DerivationImageSequence[0].SourceImageSequence[0]
                frame = item.get("ReferencedFrameNumber")
                planes[(str(item.ReferencedSOPInstanceUID), None if frame is None else int(frame))] = pixels
        return planes


@pytest.fixture(scope="session")
def second_reader() -> SecondReader:
    return SecondReader()
