"""The two nouns of space: a Grid, and an Image on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rcmed.errors import GeometryError, GridMismatchError
from rcmed.modality import Modality
from rcmed.packed_mask import PackedMask

if TYPE_CHECKING:
    from rcmed.vocabulary import BodyRegion


@dataclass(frozen=True, eq=False)
class Grid:
    """Where voxels are: a shape and the way from voxel centres to patient coordinates.

    Attributes:
        shape: (slice, row, column) in voxels; a 2D image has one slice.
        affine: float64 (4, 4). Maps homogeneous voxel indices (slice, row, column, 1), counted from the centre of the
            first voxel, to millimetres in the DICOM patient coordinate system, LPS (DICOM PS3.3 C.7.6.2.1.1).
        in_millimetres: False when no trustworthy spacing is known (PNG, a screen capture); the affine then counts
            pixels, and nothing may be reported in mm.
        in_patient_coordinates: False when the position in the patient is unknown (photograph, radiograph, ultrasound).
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    in_millimetres: bool = True
    in_patient_coordinates: bool = True

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise GeometryError(f"a grid needs a shape (slice, row, column) of at least 1 each, not {self.shape}")
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise GeometryError("a grid needs a finite affine of shape (4, 4)")
        if abs(np.linalg.det(affine[:3, :3])) < 1e-12:
            raise GeometryError("the affine of a grid must be invertible: two of its axes are parallel or zero")
        affine.setflags(write=False)
        object.__setattr__(self, "affine", affine)

    @classmethod
    def without_geometry(cls, rows: int, columns: int, slices: int = 1) -> Grid:
        """A grid that counts pixels: (row down, column right), no millimetres, no patient position."""
        affine = np.zeros((4, 4))
        affine[0, 2] = affine[1, 1] = affine[2, 0] = affine[3, 3] = 1.0
        return cls((slices, rows, columns), affine, in_millimetres=False, in_patient_coordinates=False)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance between voxel centres along (slice, row, column) indices, in mm (or pixels)."""
        first, second, third = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(first), float(second), float(third)

    @property
    def voxel_volume(self) -> float:
        """Volume of a voxel in mm3 (or cubic pixels)."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    @property
    def pixel_area(self) -> float:
        """Area of a pixel within a slice in mm2 (or square pixels)."""
        return float(np.linalg.norm(np.cross(self.affine[:3, 1], self.affine[:3, 2])))

    def to_patient(self, indices: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map voxel indices (..., 3) as (slice, row, column) to LPS mm (..., 3)."""
        return np.asarray(indices, dtype=np.float64) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def matches(self, other: Grid, tolerance_mm: float = 1e-3) -> bool:
        """Whether every voxel corner of both grids agrees within `tolerance_mm`."""
        if self.shape != other.shape:
            return False
        corners = np.array(
            [[s, r, c] for s in (0, self.shape[0]) for r in (0, self.shape[1]) for c in (0, self.shape[2])],
            dtype=np.float64,
        )
        return bool(np.abs(self.to_patient(corners) - other.to_patient(corners)).max() <= tolerance_mm)

    def require_mask(self, mask: NDArray[np.bool_] | PackedMask) -> None:
        """Check that a mask lies on this grid.

        Raises:
            GridMismatchError: the shapes differ; nothing guesses a flip or a transposition.
        """
        if mask.shape != self.shape:
            raise GridMismatchError(f"a mask of shape {mask.shape} does not lie on a grid of shape {self.shape}")


@dataclass(frozen=True)
class SourceInstance:
    """The DICOM instance (and frame) that one slice of an image came from.

    Attributes:
        path: the file.
        sop_class_uid, sop_instance_uid, series_instance_uid, study_instance_uid: as in the file.
        frame_number: from 1; None for a single-frame instance.
    """

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str
    frame_number: int | None = None


STANDARDISED_UPTAKE = "{SUVbw}g/ml"
"""UCUM code of PET pixels that are standardised by body weight (PS3.16 CID 85)."""
UNKNOWN_UNIT = "1"
"""UCUM code (no units) of pixels that are surely, or may be, not in their modality's usual unit (a CT without HU)."""


@dataclass(frozen=True, eq=False)
class Image:
    """Pixels on a Grid.

    Attributes:
        pixels: (slice, row, column) for grey, in the unit of the modality (HU for CT, otherwise as stored after the
            modality LUT; MONOCHROME1 already inverted so that larger is brighter), any integer or float dtype; or
            (slice, row, column, 3) uint8 RGB.
        grid: where the voxels are.
        modality: one of the nine.
        sources: one per slice where the image came from DICOM, in the order of the slices; else empty.
        files: what was read, for the record.
        is_volume: True when the slices are neighbours in space; False for a 2D image or for frames of a cine loop.
        window: (centre, width) in the unit of the pixels, where the source gives one.
        series_instance_uid: where the image came from DICOM.
        warnings: what the reader noticed, a clear line each.
        unit: UCUM code of the pixels where they are not in the modality's usual unit (`STANDARDISED_UPTAKE`, or
            `UNKNOWN_UNIT` of pixels in which nothing may be measured).
        file_axes: for (slice, row, column), the axis of the file's own voxel array (first, second, third) that it is;
            a permutation, never a flip, so that a mask goes back to the file's grid exactly.
        unlearned: why the weights can't tell anything of an image of its kind, though its modality is the nearest of
            the nine (sections through a retina, which fundus photographs are not); None where they can.
        nifti_header: nibabel's header of the NIfTI file that the image came from, whose way to say its place the masks
            keep; None: another source.
        body_regions: what the source says that the image was taken of; None where it does not say.
        is_modality_assumed: nothing tells the modality, and `modality` is a guess.
    """

    pixels: NDArray[np.generic]
    grid: Grid
    modality: Modality
    sources: tuple[SourceInstance, ...] = ()
    files: tuple[Path, ...] = ()
    is_volume: bool = False
    window: tuple[float, float] | None = None
    series_instance_uid: str | None = None
    warnings: tuple[str, ...] = field(default=())
    file_axes: tuple[int, int, int] = (2, 1, 0)
    unit: str | None = None
    unlearned: str | None = None
    nifti_header: Any = None
    body_regions: frozenset[BodyRegion] | None = None
    is_modality_assumed: bool = False

    def __post_init__(self) -> None:
        if self.pixels.shape[:3] != self.grid.shape or self.pixels.ndim not in (3, 4):
            raise GridMismatchError(
                f"pixels of shape {self.pixels.shape} do not lie on a grid of shape {self.grid.shape}"
            )
        if self.pixels.ndim == 4 and (self.pixels.shape[3] != 3 or self.pixels.dtype != np.uint8):
            raise GeometryError(
                f"colour pixels must be (slice, row, column, 3) uint8, not {self.pixels.shape} {self.pixels.dtype}"
            )
        if self.sources and len(self.sources) != self.grid.shape[0]:
            raise GridMismatchError(f"{len(self.sources)} source instances for {self.grid.shape[0]} slices")

    @property
    def is_colour(self) -> bool:
        """Whether the pixels are RGB."""
        return self.pixels.ndim == 4

    @property
    def claims_hounsfield(self) -> bool:
        """Whether the pixels are told and measured as HU: the one place that says so.

        Grey CT with known geometry, no 8-bit picture of a window, and no reader found (`unit`) that they are not HU.
        """
        return (
            self.modality is Modality.CT
            and self.unit is None
            and not self.is_colour
            and self.grid.in_millimetres
            and self.grid.in_patient_coordinates
            and self.pixels.dtype.itemsize > 1
        )
