"""Where a frame of a SEG lies on the grid of an image: by the planes of both, and by what the frame refers to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from rcmed.errors import GridMismatchError
from rcmed.image import Grid, Image
from rcmed.readers.alignment import POSITION_TOLERANCE

DIRECTION_TOLERANCE = 0.1
"""Largest component of a frame's row or column along another axis of the grid: a source may drift that much."""


@dataclass(frozen=True)
class Placement:
    """Integer voxel indices (slice, row, column) of a frame's first pixel, and of its steps to the next row and column.

    Attributes:
        first: of the pixel in the first row and column.
        down: added for each row.
        right: added for each column.
    """

    first: tuple[int, int, int]
    down: tuple[int, int, int] = (0, 1, 0)
    right: tuple[int, int, int] = (0, 0, 1)

    def indices(self, pixels: NDArray[np.bool_]) -> NDArray[np.intp]:
        """Voxel indices (point, 3) of what is set in a frame (row, column)."""
        row, column = np.nonzero(pixels)
        found = np.array(self.first) + row[:, None] * np.array(self.down) + column[:, None] * np.array(self.right)
        return np.asarray(found, dtype=np.intp)


class FramePlacer:
    """Places the frames of one SEG on one image."""

    def __init__(self, segmentation: Dataset, image: Image, name: str) -> None:
        self._image = image
        self._name = name
        self._rows, self._columns = int(segmentation.Rows), int(segmentation.Columns)
        self._shared = (segmentation.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
        self._has_planes = image.grid.in_patient_coordinates and bool(segmentation.get("FrameOfReferenceUID"))
        self._slices: dict[str, dict[int, int]] = {}
        for number, source in enumerate(image.sources):
            self._slices.setdefault(source.sop_instance_uid, {})[source.frame_number or 1] = number

    def place(self, group: Dataset, number: int) -> Placement:
        """Where frame `number` (from 1) lies.

        A frame lies in the slice that it refers to where its plane says the same, or nothing; a plane alone will do
        where the frame refers to nothing or to several slices. Frames that are turned or cropped against the image's
        slices are placed by their planes.

        Raises:
            GridMismatchError: the frame refers to another series, has no place, or lies on another grid.
        """
        referred = self._referred_slices(group, number)
        plane = self._frame_affine(group)
        same_size = (self._rows, self._columns) == self._image.grid.shape[1:]
        if plane is None:
            if len(referred) == 1 and same_size:
                return Placement((referred[0], 0, 0))
            if not referred and same_size and self._image.grid.shape[0] == 1:
                return Placement((0, 0, 0))
            # Frames of a storage class that has none can't be named; their place in the stack can.
            in_stack = self._in_stack(group)
            if same_size and in_stack in referred:
                return Placement((in_stack, 0, 0))
            if not same_size:
                raise GridMismatchError(
                    f"{self._name}: Rows x Columns {self._rows} x {self._columns} is not the grid "
                    f"{self._image.grid.shape} of the image"
                )
            refers = f"refers to {len(referred)} slices" if referred else "refers to no slice"
            raise GridMismatchError(
                f"{self._name}: frame {number} has no plane and {refers} (DerivationImageSequence (0008,9124)); it "
                "can't be put on a slice"
            )
        steps, exact = _on_grid(plane, self._image.grid, (self._rows, self._columns))
        if len(referred) == 1 and same_size and _is_upright(steps):
            # The slice that the frame was made from is where it lies, unless its plane lies elsewhere: a source's
            # slices may be off the regular grid by more than the rounding of a position.
            if np.abs(steps[:, 0] - np.array([referred[0], 0, 0])).max() < 0.5:
                return Placement((referred[0], 0, 0))
            raise GridMismatchError(
                f"{self._name}: frame {number} refers to slice {referred[0] + 1} but lies elsewhere "
                "(ImagePositionPatient (0020,0032)); it can't be put on a slice"
            )
        if not exact:
            raise GridMismatchError(
                f"{self._name}: frame {number} does not lie on the voxels of the series (another spacing, orientation "
                "or position); resample the segmentation to the series first"
            )
        first, down, right = (tuple(int(x) for x in column) for column in np.round(steps).T)
        return Placement(first, down, right)  # type: ignore[arg-type]

    def _referred_slices(self, group: Dataset, number: int) -> list[int]:
        """Slices that a frame was derived from, each once.

        Raises:
            GridMismatchError: it was derived from instances of which the image has none.
        """
        items = [
            item
            for derivation in functional_group(group, self._shared, "DerivationImageSequence")
            for item in derivation.get("SourceImageSequence") or []
        ]
        found: dict[int, None] = {}
        for item in items:
            by_frame = self._slices.get(str(item.get("ReferencedSOPInstanceUID", "")), {})
            frames = item.get("ReferencedFrameNumber")
            if frames is None:
                numbers: Sequence[int] = list(by_frame)
            else:
                numbers = [int(frame) for frame in (frames if isinstance(frames, Sequence) else [frames])]
            found.update((by_frame[frame], None) for frame in numbers if frame in by_frame)
        if items and not found:
            raise GridMismatchError(
                f"{self._name}: frame {number} was made from {items[0].get('ReferencedSOPInstanceUID')}, which is no "
                "slice of the image: not in the image's series, or another frame"
            )
        return list(found)

    def _in_stack(self, group: Dataset) -> int:
        """Place in the stack that a frame tells (PS3.3 C.7.6.16.2.2), from 0; -1 where it does not."""
        content = functional_group(group, self._shared, "FrameContentSequence")
        return int(content[0].get("InStackPositionNumber") or 0) - 1 if content else -1

    def _frame_affine(self, group: Dataset) -> NDArray[np.float64] | None:
        """(3, 3): LPS mm of a frame's first pixel, of a step down and of a step right; None where it does not say."""
        if not self._has_planes:
            return None
        values = []
        for sequence, keyword, count in (
            ("PlanePositionSequence", "ImagePositionPatient", 3),
            ("PlaneOrientationSequence", "ImageOrientationPatient", 6),
            ("PixelMeasuresSequence", "PixelSpacing", 2),
        ):
            items = functional_group(group, self._shared, sequence)
            value = items[0].get(keyword) if items else None
            if value is None or value == "" or len(value) != count:
                return None
            values.append(np.array([float(x) for x in value]))
        position, orientation, spacing = values
        return np.stack([position, orientation[3:] * spacing[0], orientation[:3] * spacing[1]], axis=1)


def functional_group(group: Dataset, shared: Dataset, keyword: str) -> list[Dataset]:
    """The items of a functional group of a frame: its own, else the shared ones, else none (PS3.3 C.7.6.16)."""
    for holder in (group, shared):
        items = holder.get(keyword)
        if items:
            return list(items)
    return []


def _on_grid(plane: NDArray[np.float64], grid: Grid, size: tuple[int, int]) -> tuple[NDArray[np.float64], bool]:
    """Voxel indices (3, 3) of a frame's first pixel, step down and step right; whether its pixels are voxels."""
    inverse = np.linalg.inv(grid.affine[:3, :3])
    steps = inverse @ (plane - np.stack([grid.affine[:3, 3], np.zeros(3), np.zeros(3)], axis=1))
    rounded = np.round(steps)
    if (np.abs(rounded[:, 1:]).sum(axis=0) != 1).any() or (rounded[:, 1] * rounded[:, 2]).any():
        return steps, False
    corners = [(0, 0), (size[0] - 1, 0), (0, size[1] - 1), (size[0] - 1, size[1] - 1)]
    weights = np.array([[1, down, right] for down, right in corners], dtype=np.float64).T
    return steps, bool(np.abs((steps - rounded) @ weights).max() <= POSITION_TOLERANCE)


def _is_upright(steps: NDArray[np.float64]) -> bool:
    """Whether a frame's rows and columns run as the image's own do."""
    return bool(np.abs(steps[:, 1:] - np.array([[0, 0], [1, 0], [0, 1]])).max() <= DIRECTION_TOLERANCE)
