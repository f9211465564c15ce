"""What the demo sends and asks: studies made of packaged images, or one's own."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset

from dicom_bridge.delivery.dimse.sending import find_dicom_files
from dicom_bridge.demo import instances
from dicom_bridge.studies.routing import Condition, Route, RouteField

DESTINATION = "pacs"


@dataclass(frozen=True)
class DemoStudy:
    """One study of the demo.

    Attributes:
        name: short, for the table and as the name of its folder.
        study_uid: its StudyInstanceUID.
        files: of its instances.
        route: which asks it.
    """

    name: str
    study_uid: str
    files: tuple[Path, ...]
    route: Route


_PACKAGED: tuple[tuple[str, Callable[[], list[Dataset]], Condition, tuple[str, ...]], ...] = (
    (
        "fundus",
        instances.fundus_photograph,
        Condition(field=RouteField.STUDY_DESCRIPTION, value=instances.FUNDUS_DESCRIPTION),
        ("retinal vessel", "optic disc"),
    ),
    (
        "microscopy",
        instances.microscopic_image,
        Condition(field=RouteField.STUDY_DESCRIPTION, value=instances.MICROSCOPY_DESCRIPTION),
        ("nuclei",),
    ),
    (
        "abdomen",
        instances.abdominal_slice,
        Condition(field=RouteField.BODY_PART, value=instances.ABDOMEN_BODY_PART),
        ("liver", "left kidney", "spleen"),
    ),
    (
        "brain",
        instances.brain_series,
        Condition(field=RouteField.STUDY_DESCRIPTION, value=instances.BRAIN_DESCRIPTION),
        ("brain tumor",),
    ),
)


def packaged_studies(folder: Path) -> list[DemoStudy]:
    """Make the studies of packaged images as DICOM files under `folder`."""
    studies = []
    for name, make, condition, prompts in _PACKAGED:
        made = make()
        (folder / name).mkdir(parents=True, exist_ok=True)
        files = []
        for number, instance in enumerate(made, start=1):
            files.append(folder / name / f"{number:04d}.dcm")
            instance.save_as(files[-1], enforce_file_format=True)
        route = Route(name=name, conditions=(condition,), prompts=prompts, destinations=(DESTINATION,))
        studies.append(DemoStudy(name, str(made[0].StudyInstanceUID), tuple(files), route))
    return studies


def own_studies(folder: Path, prompt: str) -> list[DemoStudy]:
    """The studies of the DICOM files under `folder`, all asked the same; no prompt: what is there.

    Raises:
        InputError: there is no DICOM file.
    """
    prompts = tuple(part.strip() for part in re.split(r"[;\n]", prompt) if part.strip())
    route = Route(name="own", prompts=prompts, destinations=(DESTINATION,))
    by_study: dict[str, list[Path]] = {}
    for path in find_dicom_files(folder):
        uid = str(pydicom.dcmread(path, specific_tags=["StudyInstanceUID"]).get("StudyInstanceUID", ""))
        by_study.setdefault(uid, []).append(path)
    return [
        DemoStudy(f"study-{number}", uid, tuple(files), route)
        for number, (uid, files) in enumerate(by_study.items(), start=1)
    ]
