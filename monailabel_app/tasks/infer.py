"""The four tasks that viewers see, over one resident assistant.

| task | type in `/info/` | who uses it |
| --- | --- | --- |
| `rcmed` | segmentation, 3D | Slicer's Auto panel, OHIF's Auto and Class Prompts |
| `rcmed_edit` | deepgrow, 3D | Slicer's SmartEdit (the segment's name is the prompt), OHIF's Point Prompts |
| `rcmed_2d` | segmentation, 2D | the same for slices or frames that are looked at one by one |
| `rcmed_vista` | vista3d, 3D | OHIF's Point and Class Prompts: a class with points |
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from monailabel.interfaces.tasks.infer_v2 import InferTask
from numpy.typing import NDArray

from monailabel_app.tasks.label_map import paint, write_nrrd
from monailabel_app.tasks.labels import PROMPT_SLOTS, AdvertisedLabels
from monailabel_app.tasks.points import GridPointing, PointMemory, as_hints, chosen_part, on_grid
from monailabel_app.tasks.question import AUTOMATIC, Asked, Question, read_question
from monailabel_app.tasks.resident_assistant import ResidentAssistant
from rcmed.errors import InputError
from rcmed.findings import Finding, Findings
from rcmed.hints import Hint
from rcmed.image import Image
from rcmed.modality import Modality
from rcmed.vocabulary import load_targets, resolve_targets

EXTENSION = ".nrrd"
PRESETS = (
    "optic disc; retinal vessel",
    "liver; spleen; left kidney; right kidney",
    "left lung; right lung; heart",
    "brain tumor; peritumoral edema",
    "left ventricle; right ventricle; myocardium",
)


@dataclass(frozen=True)
class _Answer:
    """One finding with the value that it has in the mask and the mask that is shown."""

    finding: Finding
    value: int
    mask: NDArray[np.bool_] | None

    def as_dict(self) -> dict[str, Any]:
        """For the reply's JSON."""
        name = self.finding.target.name if self.finding.target is not None else self.finding.prompt
        return {
            "prompt": self.finding.prompt,
            "target": name,
            "status": str(self.finding.status),
            "presence": self.finding.presence,
            "value": self.value,
            "voxels": int(np.count_nonzero(self.mask)) if self.mask is not None else 0,
            "description": self.finding.description or self.finding.reason or "",
        }


class FindTask(InferTask):  # type: ignore[misc]
    """Answers a viewer's request with a label map on the image's own grid."""

    def __init__(
        self,
        resident: ResidentAssistant,
        type_: str,
        dimension: int,
        description: str,
        fallback_modality: Modality | None = None,
        takes_points: bool = False,
        one_segment: bool = False,
        slice_by_slice: bool = False,
    ) -> None:
        """Make a task.

        Args:
            type_: by which a viewer chooses its panel.
            fallback_modality: of files that do not say.
            takes_points: look at clicks and boxes.
            one_segment: all that is found becomes value 1, the segment that the user edits.
            slice_by_slice: slices are images of their own, not neighbours in space.
        """
        self._labels = AdvertisedLabels(resident.assistant.trained_targets or [t.name for t in load_targets()])
        super().__init__(
            type=type_,
            labels=self._labels.as_dict(),
            dimension=dimension,
            description=description,
            config={
                "prompt": "",
                "preset": ["", *_answerable_presets(resident.assistant.trained_targets)],
                "modality": [AUTOMATIC, *(str(modality) for modality in Modality)],
            },
        )
        self._resident = resident
        self._fallback = fallback_modality
        self._takes_points = takes_points
        self._one_segment = one_segment
        self._slice_by_slice = slice_by_slice
        self._memory = PointMemory()

    def is_valid(self) -> bool:
        """Always; the assistant is there."""
        return True

    def __call__(self, request: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Answer.

        Args:
            request: `image`: path of the image (a file, or a folder with one series); `image_info`: what the store
                knows of it; else the viewer's params.
        Returns:
            path of a temporary .nrrd (the caller removes it) and the JSON: `label_names` name to value, `findings`,
            `unresolved`, the `answer` in words, the `model`, `seconds`.
        Raises:
            InputError: no part of the question is understood, or the image can't be used.
        """
        started = time.perf_counter()
        if request.get("result_extension", EXTENSION) != EXTENSION:
            raise InputError(f"params: `result_extension` is {EXTENSION}; other formats are not written")
        question = read_question(request, self._labels, self._takes_points)
        path = Path(request["image"])
        image = self._resident.read(path, question.modality, _stored_modality(request) or self._fallback)
        if self._slice_by_slice:
            image = replace(image, is_volume=False)
        read = time.perf_counter()
        pointing = self._pointing(question, image, path)
        hints = as_hints(pointing) if self._is_hinted(question, pointing) else {}
        findings = self._find(question, image, pointing, hints)
        # What the weights were told need not be chosen from.
        choosing = GridPointing() if hints else pointing
        findings, kept_whole = _with_chosen_parts(findings, choosing, image)
        answers, unresolved = self._answers(question, findings, choosing)
        if pointing.inside and all(answer.mask is None or not answer.mask.any() for answer in answers):
            # An empty answer would take the place of the segment that the user was mending.
            raise InputError("nothing was found at the clicks; the segment stays as it is: click elsewhere, or draw")
        unresolved += kept_whole if question.asked is not Asked.NOTHING else []
        values = paint([(answer.value, answer.mask) for answer in answers], image)
        handle, result = tempfile.mkstemp(prefix="rcmed-", suffix=EXTENSION)
        os.close(handle)
        write_nrrd(values, image, Path(result))
        reply = {
            "label_names": self._label_names(question, answers),
            "findings": [answer.as_dict() for answer in answers],
            "unresolved": unresolved,
            "answer": findings.answer,
            "modality": str(image.modality),
            "model": {
                "name": findings.model.name,
                "version": findings.model.version,
                "weights_sha256": findings.model.weights_sha256,
            },
            "seconds": {
                "read": round(read - started, 3),
                **findings.seconds,
                "total": round(time.perf_counter() - started, 3),
            },
        }
        return result, reply

    def _pointing(self, question: Question, image: Image, path: Path) -> GridPointing:
        given = question.pointing
        if question.for_ohif and self._memory.is_stale(given, str(path), question.words):
            return GridPointing()
        return on_grid(given, image)

    def _find(self, question: Question, image: Image, pointing: GridPointing, hints: Mapping[int, Hint]) -> Findings:
        if self._one_segment and question.asked is Asked.NOTHING and not pointing.inside:
            raise InputError(
                "nothing says what to find: name the segment after its target, type a prompt in Options, or click on it"
            )
        words: Sequence[str] = question.words
        if question.asked is Asked.CLASSES and len(words) > 1:
            # OHIF's Auto run of a vista3d model ticks every class; those of other modalities are not there.
            known = {target.name for target in self._resident.assistant.known_targets(image)}
            words = [word for word in words if word in known]
            if not words:
                return Findings((), self._resident.assistant.identity, image.grid, image.modality)
        return self._resident.find(image, words, hints)

    def _is_hinted(self, question: Question, pointing: GridPointing) -> bool:
        """Whether the weights are told where the user points at."""
        assistant = self._resident.assistant
        if not pointing or not assistant.takes_hints:
            return False
        # Without a name every target would be drawn at the click, by weights that never learned to do without.
        return question.asked is not Asked.NOTHING or (assistant.takes_hints_without_name and bool(pointing.inside))

    def _answers(
        self, question: Question, findings: Findings, choosing: GridPointing
    ) -> tuple[list[_Answer], list[str]]:
        unresolved = [f.reason or f"`{f.prompt}` names no target" for f in findings.findings if f.target is None]
        by_target = {f.target.name: f for f in reversed(findings.findings) if f.target is not None}
        named = [f for f in findings.findings if f.target is not None and by_target[f.target.name] is f]
        if unresolved and not named:
            raise InputError("; ".join(unresolved))
        if question.asked is Asked.NOTHING and choosing.inside:
            named = _smallest_touched(named, choosing)
        if self._one_segment:
            return [_Answer(f, 1, f.mask) for f in named], unresolved
        values = self._values(question, named)
        return [_Answer(f, values[id(f)], f.mask) for f in named if id(f) in values], unresolved

    def _values(self, question: Question, named: Sequence[Finding]) -> dict[int, int]:
        """The value of each finding, by identity: 1..N, or for OHIF an advertised one."""
        if not question.for_ohif:
            if len(named) > 255:
                raise InputError(f"{len(named)} targets do not fit one mask; ask for at most 255")
            return {id(finding): number for number, finding in enumerate(named, start=1)}
        if question.asked is not Asked.PROMPT:
            values = self._labels.targets
            return {id(f): values[f.target.name] for f in named if f.target is not None and f.target.name in values}
        free = [*question.slots, *(slot for slot in range(1, PROMPT_SLOTS + 1) if slot not in question.slots)]
        if len(named) > len(free):
            raise InputError(f"the prompt names {len(named)} targets; at most {PROMPT_SLOTS} fit OHIF's slots at once")
        return {id(finding): value for finding, value in zip(named, free, strict=False)}

    def _label_names(self, question: Question, answers: Sequence[_Answer]) -> dict[str, int]:
        if self._one_segment and question.asked is Asked.LABEL and len(question.words) == 1:
            return {question.words[0]: 1}
        return {answer.finding.target.name: answer.value for answer in answers if answer.finding.target is not None}


def make_tasks(resident: ResidentAssistant, fallback_modality: Modality | None = None) -> dict[str, InferTask]:
    """The four tasks by name; all ask the same assistant."""
    return {
        "rcmed": FindTask(
            resident,
            "segmentation",
            3,
            "Finds what is typed in Options, `prompt`; without a prompt: what is there",
            fallback_modality,
        ),
        "rcmed_edit": FindTask(
            resident,
            "deepgrow",
            3,
            "Finds what the segment's name (or `prompt`) says, at the clicks",
            fallback_modality,
            takes_points=True,
            one_segment=True,
        ),
        "rcmed_2d": FindTask(
            resident,
            "segmentation",
            2,
            "Finds what is typed in Options, `prompt`, in each slice or frame by itself",
            fallback_modality,
            slice_by_slice=True,
        ),
        "rcmed_vista": FindTask(
            resident,
            "vista3d",
            3,
            "Finds a class, or what is typed in Options, `prompt`, at the points",
            fallback_modality,
            takes_points=True,
        ),
    }


def _with_chosen_parts(findings: Findings, pointing: GridPointing, image: Image) -> tuple[Findings, list[str]]:
    """What the clicks choose of each finding, and what is to be said where they choose nothing."""
    chosen = [chosen_part(finding, pointing, image) for finding in findings.findings]
    said = [reason for _, reason in chosen if reason is not None]
    return replace(findings, findings=tuple(finding for finding, _ in chosen)), said


def _smallest_touched(named: Sequence[Finding], pointing: GridPointing) -> list[Finding]:
    """Of what is there, the smallest that a click touches: the most specific name for the place."""
    sizes = []
    for finding in named:
        mask = finding.mask
        if mask is not None and any(mask[voxel] for voxel in pointing.inside):
            sizes.append((int(np.count_nonzero(mask)), finding))
    return [min(sizes, key=lambda pair: pair[0])[1]] if sizes else []


def _answerable_presets(trained: Sequence[str]) -> list[str]:
    if not trained:
        return list(PRESETS)
    known = set(trained)
    return [preset for preset in PRESETS if {t.name for t in resolve_targets(preset).targets} <= known]


def _stored_modality(request: Mapping[str, Any]) -> Modality | None:
    """What the store says of an image's modality, where it is one of ours."""
    stored = request.get("image_info") or {}
    name = str(stored.get("modality") or "").lower()
    return Modality(name) if name in set(Modality) else None
