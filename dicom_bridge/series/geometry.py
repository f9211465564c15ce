"""Where frames lie in the patient, and whether they make a regular stack.

A volume is built only from slices that lie on one right-angled grid. Everything else is refused with the reason that a
reader of the series would give: slices are missing, repeated, tilted, of several orientations. Nothing is resampled.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from highdicom.spatial import get_normal_vector
from numpy.typing import NDArray

from dicom_bridge.errors import SeriesGeometryError
from dicom_bridge.series.headers.instance import Instance, functional_group, numbers, value
from rcmed.image import Grid

UNIT_TOLERANCE = 1e-2
"""Direction cosines whose length or right angle is off by more are not trusted as an orientation."""
ORIENTATION_TOLERANCE = 1e-3
"""Largest difference of a direction cosine within one stack (scanners round to 5 digits and more)."""
PIXEL_SPACING_TOLERANCE = 1e-3
"""Largest relative difference of pixel spacing within one stack."""
SAME_POSITION_MM = 1e-3
"""Slices nearer than this along the normal are at one position."""
STEP_TOLERANCE = 0.03
"""Largest relative difference of a step between slices from the mean step (rounded positions reach 1.5 %)."""
DRIFT_TOLERANCE = 0.1
"""Largest distance of a slice from its place on the regular grid, as a part of the step."""
TILT_TOLERANCE_DEGREES = 0.2
"""Largest angle between the step from slice to slice and the normal; 0.2 degrees are 1 mm in 300 mm."""
GAP_RATIO = 1.5
"""A step this many times the usual one means missing slices; this many times the thickness, a gap worth a warning."""


@dataclass(frozen=True, eq=False)
class FramePlane:
    """Where one frame lies.

    Attributes:
        position: centre of the first voxel, LPS mm (3,); None where not stored.
        orientation: direction cosines (2, 3) of increasing column and increasing row index; None where not trusted.
        spacing: mm between rows, between columns (PS3.3 10.7.1.3); None where not trusted.
        thickness: mm; None where not stored.
    """

    position: NDArray[np.float64] | None
    orientation: NDArray[np.float64] | None
    spacing: tuple[float, float] | None
    thickness: float | None

    @property
    def in_patient(self) -> bool:
        """Whether the frame's place in the patient is known."""
        return self.position is not None and self.orientation is not None and self.spacing is not None

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit vector along which slices are sorted: the cross product of row and column direction."""
        assert self.orientation is not None
        normal: NDArray[np.float64] = get_normal_vector(self.orientation.ravel().tolist())
        return normal


def frame_planes(instance: Instance) -> list[FramePlane]:
    """The plane of every frame, from functional groups (PS3.3 C.7.6.16.2) or from the top level (C.7.6.2).

    Raises:
        SeriesGeometryError: fewer functional groups than frames.
    """
    header = instance.header
    per_frame = value(header, "PerFrameFunctionalGroupsSequence")
    if per_frame is not None and len(per_frame) < instance.frames:
        raise SeriesGeometryError(
            f"{instance.path}: {len(per_frame)} Per-frame Functional Groups (5200,9230) for {instance.frames} frames"
        )
    planes = []
    for frame in range(instance.frames):
        measures = functional_group(header, frame, "PixelMeasuresSequence")
        placed = functional_group(header, frame, "PlanePositionSequence")
        turned = functional_group(header, frame, "PlaneOrientationSequence")
        # The top level places one frame only; its spacing holds for all.
        top = header if instance.frames == 1 else None
        position = numbers(placed, "ImagePositionPatient", 3) or numbers(top, "ImagePositionPatient", 3)
        thickness = numbers(measures, "SliceThickness", 1) or numbers(header, "SliceThickness", 1)
        planes.append(
            FramePlane(
                np.array(position) if position else None,
                _orientation(
                    numbers(turned, "ImageOrientationPatient", 6) or numbers(top, "ImageOrientationPatient", 6)
                ),
                _spacing(numbers(measures, "PixelSpacing") or numbers(header, "PixelSpacing"))
                or _ultrasound_spacing(instance),
                thickness[0] if thickness and thickness[0] > 0 else None,
            )
        )
    return planes


def single_grid(instance: Instance, planes: list[FramePlane]) -> Grid:
    """The grid of frames that are no stack: in the patient (one frame), in mm, or counting pixels."""
    plane = planes[0]
    if len(planes) == 1 and plane.in_patient:
        step = plane.normal * (plane.thickness or 1.0)
        return Grid((1, instance.rows, instance.columns), _affine(plane, step))
    if plane.spacing is not None and all(other.spacing == plane.spacing for other in planes):
        affine = Grid.without_geometry(instance.rows, instance.columns).affine * np.array([1, *plane.spacing, 1])
        shape = (len(planes), instance.rows, instance.columns)
        return Grid(shape, affine, in_millimetres=True, in_patient_coordinates=False)
    return Grid.without_geometry(instance.rows, instance.columns, len(planes))


def arrange_stack(name: str, planes: list[FramePlane]) -> tuple[list[int], NDArray[np.float64], list[str]]:
    """Sort at least two planes along their normal and check that they make a regular, right-angled stack.

    Args:
        name: the series or file, for the reasons.

    Returns:
        The order of the planes (indices), the affine float64 (4, 4) from (slice, row, column) to LPS mm, and warnings.

    Raises:
        SeriesGeometryError: one line with the reason.
    """
    missing = sum(not plane.in_patient for plane in planes)
    if missing:
        raise SeriesGeometryError(
            f"{name}: {missing} of {len(planes)} slices lack a usable ImagePositionPatient (0020,0032), "
            "ImageOrientationPatient (0020,0037) or PixelSpacing (0028,0030); no volume can be built"
        )
    _require_one_orientation(name, planes)
    first = planes[0]
    assert first.spacing is not None
    for plane in planes:
        if not np.allclose(plane.spacing, first.spacing, rtol=PIXEL_SPACING_TOLERANCE):  # type: ignore[arg-type]
            raise SeriesGeometryError(
                f"{name}: PixelSpacing (0028,0030) changes from {first.spacing} to {plane.spacing}"
            )
    positions = np.array([plane.position for plane in planes])
    heights = positions @ first.normal
    order = [int(index) for index in np.argsort(heights, kind="stable")]
    positions, heights = positions[order], heights[order]
    steps = np.diff(heights)
    _require_distinct(name, steps)
    _require_regular(name, steps)
    step = (positions[-1] - positions[0]) / (len(planes) - 1)
    length = float(np.linalg.norm(step))
    tilt = float(np.degrees(np.arccos(np.clip(step @ first.normal / length, -1.0, 1.0))))
    if tilt > TILT_TOLERANCE_DEGREES:
        raise SeriesGeometryError(
            f"{name}: the slices are tilted by {tilt:.1f} degrees against their stacking direction (gantry tilt); "
            "resample the series to a right-angled grid first"
        )
    drift = np.linalg.norm(positions - (positions[0] + np.outer(np.arange(len(planes)), step)), axis=1).max()
    if drift > DRIFT_TOLERANCE * length:
        raise SeriesGeometryError(
            f"{name}: a slice lies {drift:.2f} mm beside the regular grid of {length:.2f} mm steps"
        )
    warnings = []
    thickness = first.thickness
    if thickness and length > GAP_RATIO * thickness:
        warnings.append(f"{name}: slices of {thickness:g} mm lie {length:g} mm apart; what is between was not imaged")
    return order, _affine(planes[order[0]], step), warnings


def _affine(plane: FramePlane, step: NDArray[np.float64]) -> NDArray[np.float64]:
    """From (slice, row, column) to LPS mm (PS3.3 C.7.6.2.1.1, equation C.7.6.2.1-1)."""
    assert plane.orientation is not None and plane.position is not None and plane.spacing is not None
    affine = np.eye(4)
    affine[:3, 0] = step
    affine[:3, 1] = plane.orientation[1] * plane.spacing[0]
    affine[:3, 2] = plane.orientation[0] * plane.spacing[1]
    affine[:3, 3] = plane.position
    return affine


def _require_one_orientation(name: str, planes: list[FramePlane]) -> None:
    found: list[NDArray[np.float64]] = []
    counts: Counter[int] = Counter()
    for plane in planes:
        assert plane.orientation is not None
        same = (i for i, other in enumerate(found) if np.abs(plane.orientation - other).max() <= ORIENTATION_TOLERANCE)
        index = next(same, len(found))
        if index == len(found):
            found.append(plane.orientation)
        counts[index] += 1
    if len(found) > 1:
        parts = ", ".join(str(counts[index]) for index in range(min(len(found), 6)))
        raise SeriesGeometryError(
            f"{name}: {len(found)} different values of ImageOrientationPatient (0020,0037) in one series "
            f"({parts} slices); send each stack as a series of its own"
        )


def _require_distinct(name: str, steps: NDArray[np.float64]) -> None:
    starts = np.concatenate([[True], steps > SAME_POSITION_MM])
    repeats = np.diff(np.append(np.flatnonzero(starts), len(starts)))
    if repeats.max() == 1:
        return
    places = len(repeats)
    if places == 1:
        reason = f"all {len(starts)} slices are at one position (a time series or bolus monitoring), no volume"
    elif repeats.min() == repeats.max():
        reason = (
            f"{len(starts)} slices at {places} positions, each {repeats[0]} times: {repeats[0]} volumes in one series "
            "(4-D: time, diffusion or echo), too many or told apart by no attribute; split it into one series a volume"
        )
    else:
        reason = f"{len(starts)} slices at only {places} positions: some slices are repeated"
    raise SeriesGeometryError(f"{name}: {reason}")


def _require_regular(name: str, steps: NDArray[np.float64]) -> None:
    mean = float(steps.mean())
    if np.abs(steps - mean).max() <= STEP_TOLERANCE * mean:
        return
    usual = float(np.median(steps)) if len(steps) > 2 else float(steps.min())
    wide = steps[steps > GAP_RATIO * usual]
    if len(wide):
        absent = int(np.maximum(np.round(wide / usual) - 1, 1).sum())
        raise SeriesGeometryError(
            f"{name}: slices are missing: the usual step is {usual:.3g} mm, the largest {wide.max():.4g} mm "
            f"(about {absent} missing); send the complete series"
        )
    raise SeriesGeometryError(
        f"{name}: steps between slices vary from {steps.min():.4g} to {steps.max():.4g} mm; no regular volume"
    )


def _orientation(cosines: tuple[float, ...] | None) -> NDArray[np.float64] | None:
    if cosines is None:
        return None
    pair = np.array(cosines).reshape(2, 3)
    lengths = np.linalg.norm(pair, axis=1)
    if np.abs(lengths - 1).max() > UNIT_TOLERANCE or abs(float(pair[0] @ pair[1])) > UNIT_TOLERANCE:
        return None
    return np.asarray(pair / lengths[:, np.newaxis])


def _spacing(stored: tuple[float, ...] | None) -> tuple[float, float] | None:
    """Two positive values, or no trust: 0 and three values are found in real files."""
    if stored is None or len(stored) != 2 or min(stored) <= 0:
        return None
    return stored[0], stored[1]


def _ultrasound_spacing(instance: Instance) -> tuple[float, float] | None:
    """Spacing of an ultrasound picture with a single 2D region in cm that fills it (PS3.3 C.8.5.5)."""
    regions = value(instance.header, "SequenceOfUltrasoundRegions")
    if regions is None or len(regions) != 1:
        return None
    region = regions[0]
    kind = [numbers(region, keyword, 1) for keyword in ("RegionSpatialFormat", "PhysicalUnitsXDirection")]
    kind.append(numbers(region, "PhysicalUnitsYDirection", 1))
    deltas = [numbers(region, keyword, 1) for keyword in ("PhysicalDeltaY", "PhysicalDeltaX")]
    if kind != [(1.0,), (3.0,), (3.0,)] or None in deltas:  # 2D; centimetres
        return None
    row, column = (abs(delta[0]) * 10 for delta in deltas if delta)
    return (row, column) if row > 0 and column > 0 else None
