"""The nine modalities."""

from __future__ import annotations

from enum import StrEnum


class Modality(StrEnum):
    """The nine modalities that RCMed knows. The value is the prefix used in the published index."""

    CT = "ct"
    MR = "mr"
    PET = "pet"
    X_RAY = "x_ray"
    ULTRASOUND = "ultrasound"
    PATHOLOGY = "pathology"
    DERMOSCOPY = "dermoscopy"
    ENDOSCOPY = "endoscopy"
    FUNDUS = "fundus"
