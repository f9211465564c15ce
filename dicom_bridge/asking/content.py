"""What the page is told in JSON: images, names that can be asked for, findings; and what it asks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from dicom_bridge.asking.planes import Plane, first_window
from dicom_bridge.asking.uploads import Answer, AskedImage, Upload
from rcmed.errors import InputError
from rcmed.findings import Finding, FindingStatus, Measurement
from rcmed.findings.json_file import findings_to_json
from rcmed.hints import Hint
from rcmed.image import Image
from rcmed.measurements import PIXEL_COUNT, written
from rcmed.model.instruction import modality_words
from rcmed.packed_mask import PackedMask
from rcmed.vocabulary import Target, load_targets

Place = tuple[FiniteFloat, FiniteFloat]


class PointedAt(BaseModel):
    """What is pointed at in one slice as it is shown; places (row, column) in its pixels as of `rcmed.hints.Hint`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    inside: Annotated[tuple[Place, ...], Field(max_length=200)] = ()
    outside: Annotated[tuple[Place, ...], Field(max_length=200)] = ()
    box: tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat] | None = None


class Question(BaseModel):
    """Words, and what is pointed at by slice of the image's own plane, from 0."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    words: Annotated[str, Field(max_length=4000)] = ""
    hints: Annotated[dict[int, PointedAt], Field(max_length=200)] = {}


def hints_of(question: Question, plane: Plane) -> dict[int, Hint]:
    """The hints on the slices as they are stored.

    Args:
        question: whose hints lie on the slices as they are shown.
        plane: the image's own.
    Raises:
        InputError: a hint lies outside the image, or holds nothing.
    """
    hints = {}
    for index, pointed in question.hints.items():
        if not 0 <= index < plane.grid.shape[0]:
            raise InputError(f"hint: there is no slice {index}: the image has {plane.grid.shape[0]}")
        hint = Hint(pointed.inside, pointed.outside, pointed.box)
        hint.require_inside(*plane.shown_shape)
        hints[index] = plane.view.inverse.hint_to_view(hint, *plane.shown_shape)
    return hints


def upload_content(upload: Upload) -> dict[str, Any]:
    """Of what was dropped: its images and what was refused of it."""
    return {
        "id": upload.identifier,
        "images": [_image(each) for each in upload.images],
        "refused": list(upload.refused),
        "needs_modality": upload.needs_modality,
    }


def names_content(image: Image, known: Iterable[Target]) -> list[dict[str, Any]]:
    """Names to offer: first those that the weights know in this modality, then the others of the vocabulary."""
    first = [target.name for target in known]
    others = sorted({target.name for target in load_targets()} - set(first))
    return [{"name": name, "is_known": number < len(first)} for number, name in enumerate([*sorted(first), *others])]


def answer_content(asked: AskedImage, answer: Answer) -> dict[str, Any]:
    """Of an answer: what findings.json holds, and how the page shows it."""
    content = findings_to_json(asked.image, answer.findings)
    for told, finding in zip(content["findings"], answer.findings.findings, strict=True):
        told |= _shown(asked, finding)
    return {"number": answer.number, **content}


def _image(asked: AskedImage) -> dict[str, Any]:
    image = asked.image
    return {
        "name": asked.name,
        "modality": image.modality.value,
        "kind": modality_words(image.modality),
        "is_modality_assumed": image.is_modality_assumed,
        "is_dicom": bool(image.sources),
        "window": first_window(image),
        "warnings": list(image.warnings),
        "planes": [
            {
                "axis": plane.axis,
                "name": plane.name,
                "slices": plane.grid.shape[0],
                "rows": plane.shown_shape[0],
                "columns": plane.shown_shape[1],
                "spacing": list(plane.shown_spacing),
            }
            for plane in asked.planes
        ],
    }


def _shown(asked: AskedImage, finding: Finding) -> dict[str, Any]:
    region = finding.region if finding.is_present else None
    return {
        "said": said_of(finding),
        "colour": None if finding.target is None else list(finding.target.colour),
        "sizes": [_size(each) for each in finding.measurements],
        "is_drawn": region is not None,
        "largest": None if region is None else [_largest(region, plane) for plane in asked.planes],
    }


def _size(measurement: Measurement) -> str:
    value = written(measurement.value, measurement.unit)
    return value if measurement.code == PIXEL_COUNT else f"{measurement.name} {value}"


def said_of(finding: Finding) -> str:
    """What became of a prompt, in a line: "found", "absent", "implausible: why", "not looked for: why"."""
    if finding.status is FindingStatus.UNRESOLVED:
        reason = (finding.reason or "nothing known has this name").removesuffix("; it was not looked for")
        return f"not looked for: {reason}"
    if finding.status is FindingStatus.IMPLAUSIBLE:
        return f"implausible: {finding.reason}"
    if finding.status is FindingStatus.UNCERTAIN:
        return "uncertain"
    return "found" if finding.status is FindingStatus.FOUND else "absent"


def _largest(region: PackedMask, plane: Plane) -> int:
    """The slice of a plane in which to look at a finding: of the own plane the one with most of it, else through the
    middle of what that one holds."""
    index = int(region.areas.argmax())
    if plane.axis == 0:
        return index
    filled = region[index].any(axis=1 if plane.axis == 1 else 0).nonzero()[0]
    return int(filled[len(filled) // 2]) if len(filled) else plane.grid.shape[0] // 2
