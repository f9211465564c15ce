"""What a NIfTI header says of a volume's place, and the header of a mask that says the same.

A header has two ways to say it, sform and qform, each with a code of what it leads to; 0 is "nothing". Programs prefer
the one or the other, and where both codes are 0 they guess differently (nibabel centres, ITK takes the corner for 0).
So a mask says what its image says, to the byte: wherever a program shows the image, it shows the mask.
Source: nifti1.h, "3D IMAGE (VOLUME) ORIENTATION AND LOCATION IN SPACE".
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcmed.errors import GeometryError
from rcmed.readers.alignment import POSITION_TOLERANCE

LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_MILLIMETRES = {"micron": 1e-3, "meter": 1e3}


@dataclass(frozen=True, eq=False)
class Placement:
    """Where a header puts its voxels.

    Attributes:
        affine: float64 (4, 4) from file voxel indices to LPS mm.
        is_given: whether the header says it; False where both codes are 0, and nibabel's guess is taken.
        warnings: a line for each thing that does not fit.
    """

    affine: NDArray[np.float64]
    is_given: bool
    warnings: tuple[str, ...] = ()


def placement_of(path: Path, file: Any, shape: tuple[int, ...]) -> Placement:
    """The place of a NIfTI volume: its sform where it has one, else its qform.

    Args:
        path: for the lines.
        file: as nibabel opened it.
        shape: (first, second, third) voxels.
    Raises:
        GeometryError: neither says where the voxels are, though one has a code.
    """
    header = file.header
    scale = np.diag([*[_MILLIMETRES.get(header.get_xyzt_units()[0], 1.0)] * 3, 1.0])
    affines = {name: _given(header, name) for name in ("sform", "qform")}
    usable = {name: affine for name, affine in affines.items() if affine is not None and _is_invertible(affine)}
    lines = [
        f"{path}: its {name} has a code and is no place (singular or no numbers); the {other} is taken"
        for name, other in (("sform", "qform"), ("qform", "sform"))
        if affines[name] is not None and name not in usable and other in usable
    ]
    if not usable and any(affine is not None for affine in affines.values()):
        raise GeometryError(f"{path}: neither its sform nor its qform is invertible; set one (nifti_tool, fslorient)")
    if len(usable) == 2:
        apart = _distance(usable["sform"], usable["qform"], shape)
        if apart > POSITION_TOLERANCE:
            lines.append(
                f"{path}: its sform and qform disagree (by up to {apart:.3g} voxels); the sform is taken, masks keep "
                "both: make them one (fslorient -copysform2qform), left and right may be exchanged"
            )
    affine = next(iter(usable.values()), None)
    guess = np.array(file.affine if affine is None else affine, dtype=np.float64)
    return Placement(LPS_FROM_RAS @ scale @ guess, affine is not None, tuple(lines))


def mask_header(header: Any, axes: int) -> Any:
    """The header of a mask: place, units, byte order and version of the image's; nothing of its values or its patient.

    Args:
        header: of the image, as nibabel holds it.
        axes: of the mask, 2 or 3.
    """
    mask = header.copy()
    mask.extensions.clear()
    shape = header.get_data_shape()
    mask.set_data_shape((*shape, 1, 1)[:axes])
    # nibabel resets what lies beyond the axes: the thickness of a single slice.
    mask["pixdim"] = header["pixdim"]
    mask.set_data_dtype(np.uint8)
    mask.set_slope_inter(1, 0)
    mask.set_intent("none")
    for text in ("descrip", "aux_file", "db_name", "data_type"):
        if text in mask:
            mask[text] = b""
    for number in ("cal_max", "cal_min", "glmax", "glmin", "vox_offset"):
        if number in mask:
            mask[number] = 0
    return mask


def _given(header: Any, name: str) -> NDArray[np.float64] | None:
    """The affine of a header's sform or qform to RAS, in its units; None where its code is 0. NaN: it is none."""
    if int(header[f"{name}_code"]) <= 0:
        return None
    try:
        affine = header.get_sform() if name == "sform" else header.get_qform()
    except Exception:  # nibabel refuses quaternions that are none
        affine = np.full((4, 4), np.nan)
    return np.asarray(affine, dtype=np.float64)


def _is_invertible(affine: NDArray[np.float64]) -> bool:
    return bool(np.isfinite(affine).all()) and abs(float(np.linalg.det(affine[:3, :3]))) > 1e-12


def _distance(first: NDArray[np.float64], second: NDArray[np.float64], shape: tuple[int, ...]) -> float:
    """Farthest that a corner is apart in the two, in voxels of the first."""
    last = np.array(shape) - 1
    corners = np.array([[i, j, k, 1] for i in (0, last[0]) for j in (0, last[1]) for k in (0, last[2])])
    return float(np.abs(corners @ (np.linalg.inv(first) @ second).T - corners).max())
