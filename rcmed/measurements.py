"""Boxes and measurements of a mask on its image's grid."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.distance import pdist

from rcmed.codes import Code
from rcmed.findings import Box, Measurement
from rcmed.image import STANDARDISED_UPTAKE, Image

MAXIMUM_BOXES = 16

AREA = Code("42798000", "SCT", "Area")
VOLUME = Code("118565006", "SCT", "Volume")
DIAMETER = Code("81827009", "SCT", "Diameter")
UPTAKE = Code("126401", "DCM", "SUVbw")
ATTENUATION = Code("112031", "DCM", "Attenuation Coefficient")
MEAN = Code("373098007", "SCT", "Mean")
MAXIMUM = Code("56851009", "SCT", "Maximum")
PIXEL_COUNT = Code("PIXEL-COUNT", "99RCMED", "Pixel count")

_CUBIC_MILLIMETRES_PER_CUBIC_CENTIMETRE = 1000.0


@dataclass(frozen=True, eq=False)
class Parts:
    """The connected parts of a mask (neighbours across faces, edges and corners), largest first.

    Attributes:
        shape: (slice, row, column) of the mask.
        sizes: int64 (part,), voxels in each part; equal sizes in the order of their first voxel.
        boxes: one per part.
    """

    shape: tuple[int, ...]
    sizes: NDArray[np.int64]
    boxes: tuple[Box, ...]
    _labels: NDArray[np.int32]
    _origin: tuple[int, int, int]
    _order: NDArray[np.int64]

    def mask(self, part: int) -> NDArray[np.bool_]:
        """One part alone: bool (slice, row, column) of the whole mask's shape."""
        result = np.zeros(self.shape, dtype=bool)
        window = tuple(slice(o, o + n) for o, n in zip(self._origin, self._labels.shape, strict=True))
        result[window] = self._labels == self._order[part] + 1
        return result


def find_parts(mask: NDArray[np.bool_]) -> Parts:
    """Split a mask, bool (slice, row, column), into its connected parts."""
    empty = np.zeros(0, dtype=np.int64)
    if not mask.any():
        return Parts(mask.shape, empty, (), np.zeros((0, 0, 0), np.int32), (0, 0, 0), empty)
    # Labels take four times the memory of the mask: only the box around it is labelled.
    window = ndimage.find_objects(mask.view(np.uint8))[0]
    origin = tuple(extent.start for extent in window)
    labels, count = ndimage.label(mask[window], structure=np.ones((3, 3, 3), dtype=bool), output=np.int32)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    order = np.argsort(-sizes, kind="stable")
    extents = ndimage.find_objects(labels)
    boxes = tuple(
        Box(
            first=_index(o + extent.start for o, extent in zip(origin, extents[part], strict=True)),
            last=_index(o + extent.stop - 1 for o, extent in zip(origin, extents[part], strict=True)),
        )
        for part in order
    )
    return Parts(mask.shape, sizes[order], boxes, labels, _index(origin), order)


def find_boxes(mask: NDArray[np.bool_]) -> tuple[Box, ...]:
    """Boxes around the connected parts of a mask, largest part first, at most `MAXIMUM_BOXES`.

    Args:
        mask: bool (slice, row, column).
    Returns:
        boxes in voxel indices, both ends inclusive; none for an empty mask.
    """
    return find_parts(mask).boxes[:MAXIMUM_BOXES]


# UCUM units as people write them.
_WRITTEN_UNITS = {
    "mm2": "mm²",
    "cm2": "cm²",
    "mm3": "mm³",
    "cm3": "cm³",
    "{pixels}": "pixels",
    "[hnsf'U]": "HU",
    STANDARDISED_UPTAKE: "g/ml SUVbw",
}


def written(value: float, unit: str) -> str:
    """A value with its UCUM unit as people write it: "189,612 pixels", "3.27 cm³", "-112 HU"."""
    shown = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{shown} {_WRITTEN_UNITS.get(unit, unit)}"


def measure(mask: NDArray[np.bool_], image: Image) -> tuple[Measurement, ...]:
    """Measure a mask.

    A volume gets its volume. A 2D image, and the frames of a cine loop, get area and longest diameter, both of the
    frame where the mask is largest. Where the grid has no millimetres, pixels are counted instead. CT in HU gets its
    mean attenuation, PET in SUV the highest and the mean.

    Args:
        mask: bool (slice, row, column) on `image.grid`.
        image: pixels and grid.
    Returns:
        measurements with UCUM units: volume in cm3 from 1 cm3 on, else mm3; area mm2; diameter mm; mean attenuation
        [hnsf'U]; SUV {SUVbw}g/ml; pixel count {pixels}. None for an empty mask.
    Raises:
        GridMismatchError: the mask does not lie on the image's grid.
    Source: codes of DICOM PS3.16 TID 1411, TID 1410 and TID 300.
    """
    image.grid.require_mask(mask)
    if not mask.any():
        return ()
    measurements: list[Measurement] = []
    if not image.grid.in_millimetres:
        measurements.append(Measurement("pixel count", float(mask.sum()), "{pixels}", PIXEL_COUNT))
    elif is_three_dimensional(image):
        measurements.append(_volume(float(mask.sum()) * image.grid.voxel_volume))
    else:
        frame = largest_slice(mask)
        area = float(mask[frame].sum()) * image.grid.pixel_area
        measurements.append(Measurement("area", area, "mm2", AREA))
        diameter = longest_diameter(find_parts(mask[frame : frame + 1]).mask(0)[0], image)
        measurements.append(Measurement("longest diameter", diameter, "mm", DIAMETER, MAXIMUM))
    if image.claims_hounsfield:
        value = float(image.pixels[mask].mean(dtype=np.float64))
        measurements.append(Measurement("mean attenuation", value, "[hnsf'U]", ATTENUATION, MEAN))
    if image.unit == STANDARDISED_UPTAKE:
        inside = image.pixels[mask]
        measurements += [
            Measurement("maximum SUV", float(inside.max()), image.unit, UPTAKE, MAXIMUM),
            Measurement("mean SUV", float(inside.mean(dtype=np.float64)), image.unit, UPTAKE, MEAN),
        ]
    return tuple(measurements)


def is_three_dimensional(image: Image) -> bool:
    """Whether a volume can be measured: several slices that are neighbours in space."""
    return image.is_volume and image.grid.shape[0] > 1


def largest_slice(mask: NDArray[np.bool_]) -> int:
    """Index of the slice with the most pixels of a mask (slice, row, column); the first among equals."""
    return int(mask.sum(axis=(1, 2)).argmax())


def longest_diameter(region: NDArray[np.bool_], image: Image) -> float:
    """Longest distance between two points on the border of a region within a slice.

    Args:
        region: bool (row, column), not empty.
        image: gives the distances between pixel centres along and across the rows.
    Returns:
        mm (pixels where the grid has none). The border runs half a pixel outside the outer pixel centres, so that a
        row of n pixels is n pixels long.
    """
    rows, columns = np.nonzero(region & ~ndimage.binary_erosion(region))
    centres = np.stack([rows, columns], axis=1).astype(np.float64)
    half_steps = np.array([[0.5, 0.0], [-0.5, 0.0], [0.0, 0.5], [0.0, -0.5]])
    points = (centres[:, None] + half_steps).reshape(-1, 2) @ image.grid.affine[:3, 1:3].T
    # Distances are taken in the plane of the slice: two coordinates, in which a hull can be drawn.
    across = image.grid.affine[:3, 1:3] / np.linalg.norm(image.grid.affine[:3, 1:3], axis=0)
    plane, _ = np.linalg.qr(across)
    flat = points @ plane
    if len(flat) > 32:
        try:
            flat = flat[ConvexHull(flat).vertices]
        except QhullError:
            pass
    return float(pdist(flat).max())


def _volume(cubic_millimetres: float) -> Measurement:
    if cubic_millimetres >= _CUBIC_MILLIMETRES_PER_CUBIC_CENTIMETRE:
        return Measurement("volume", cubic_millimetres / _CUBIC_MILLIMETRES_PER_CUBIC_CENTIMETRE, "cm3", VOLUME)
    return Measurement("volume", cubic_millimetres, "mm3", VOLUME)


def _index(values: Iterable[int]) -> tuple[int, int, int]:
    first, second, third = (int(value) for value in values)
    return first, second, third
