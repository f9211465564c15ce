"""Healthy controls: volumes of which it is known what they do not show.

Sets of a disease hold the diseased only, and nothing can be learned from them of its absence. One healthy volunteer
teaches more of it than any trick on images of patients.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from nibabel.orientations import apply_orientation, io_orientation
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from rcmed.errors import InputError
from rcmed.modality import Modality
from rcmed.model.processor import to_eight_bit
from rcmed.readers import read_images

# Slices nearer to each other than this look alike.
_DISTANCE_MM = 3.0
# A slice that is darker than this nearly everywhere shows nothing to learn from.
_SHOWN_ABOVE = 20
_SMALLEST_SHOWN_SHARE = 0.05
_SQUARE_PIXEL_TOLERANCE = 0.1


class HealthyControl(BaseModel):
    """A volume, and the targets that it is known not to show.

    Attributes:
        volume: NIfTI, NRRD or MHA file with a place in the patient.
        dataset: name of the data set.
        modality: of the volume.
        absent: canonical names of targets that are nowhere in it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    volume: Path
    dataset: str
    modality: Modality
    absent: tuple[str, ...] = Field(min_length=1)

    def read_slices(self) -> list[NDArray[np.uint8]]:
        """Axial, coronal and sagittal slices as a radiologist sees them, uint8 (row, column, 3) each.

        Planes in which the pixels would not be square are left out.

        Raises:
            InputError: the file can't be read, or holds no volume with a place in the patient.
        """
        images = [image for image in read_images(self.volume, self.modality) if image.grid.in_patient_coordinates]
        if not images:
            raise InputError(f"{self.volume}: holds no volume with a place in the patient; name another file")
        pixels = to_eight_bit(images[0])[..., 0]
        orientation = io_orientation(images[0].grid.affine)
        # Axes run to the patient's left, back and head from here on.
        turned = np.asarray(apply_orientation(pixels, orientation))
        spacing = [images[0].grid.spacing[int(np.flatnonzero(orientation[:, 0] == axis)[0])] for axis in range(3)]
        axial = turned.transpose(2, 1, 0)
        coronal = turned[:, :, ::-1].transpose(1, 2, 0)
        sagittal = turned[:, :, ::-1].transpose(0, 2, 1)
        slices: list[NDArray[np.uint8]] = []
        for axis, stack in ((2, axial), (1, coronal), (0, sagittal)):
            first, second = (spacing[other] for other in range(3) if other != axis)
            if abs(first - second) <= _SQUARE_PIXEL_TOLERANCE * max(first, second):
                every = max(1, round(_DISTANCE_MM / spacing[axis]))
                slices += [each for each in stack[::every] if (each > _SHOWN_ABOVE).mean() > _SMALLEST_SHOWN_SHARE]
        return [np.repeat(each[..., None], 3, axis=-1) for each in slices]
