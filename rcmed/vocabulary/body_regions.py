"""Body regions: what an image shows, and where a target lies."""

from __future__ import annotations

from enum import StrEnum


class BodyRegion(StrEnum):
    """A part of the body, or a kind of specimen, that an image can be taken of. The value is what a person reads."""

    HEAD = "head"
    NECK = "neck"
    CHEST = "chest"
    ABDOMEN = "abdomen"
    PELVIS = "pelvis"
    SPINE = "spine"
    LIMB = "limb"
    BREAST = "breast"
    EYE = "eye"
    SKIN = "skin"
    DIGESTIVE_TRACT = "digestive tract"
    AIRWAY = "airway"
    FETUS = "fetus"
    TISSUE = "tissue"
    CELL = "cell"
