"""What an evaluation says of one target in one volume, and how it is asked for."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rcmed.assistant import Assistant
from rcmed.data.labelled_volumes import LabelledVolume
from rcmed.evaluation.scoring import scorable
from rcmed.evaluation.volumes.metrics import VolumeScore, score_volume
from rcmed.image import Image
from rcmed.vocabulary import target_named


@dataclass(frozen=True)
class VolumeRow:
    """One target in one volume, as `metrics.csv` has it.

    Attributes:
        image: the volume's name.
        status: what was said of the target: found, uncertain, absent or implausible; empty: it was not looked for, as
            the weights do not know it in this modality.
        presence: 0 to 1; 1 or 0 for a mask or none where the weights have no presence.
        seconds: that all targets of the volume took together.
        is_trained_on: slices of this patient are among the training images.
        score: the answer against the truth.
    """

    image: str
    modality: str
    dataset: str
    patient: str
    target: str
    status: str
    presence: float
    score: VolumeScore
    seconds: float
    is_trained_on: bool

    @property
    def dice(self) -> float:
        """Of the score."""
        return self.score.dice

    @property
    def present(self) -> bool:
        """Whether the truth shows the target."""
        return self.score.true_parts > 0

    @property
    def found(self) -> bool:
        """Whether a region was reported."""
        return self.score.parts > 0

    @property
    def volume_ratio(self) -> float:
        """The volume found over the true one; nan where there is none."""
        return self.score.found_ml / self.score.true_ml if self.score.true_ml > 0 else float("nan")


@dataclass(frozen=True, eq=False)
class ScoredVolume:
    """A volume that was asked for all its targets.

    Attributes:
        image: the volume.
        answers: a row for each target, with what was found and what is true, bool (slice, row, column).
        unknown: labels that no target has.
    """

    image: Image
    answers: tuple[tuple[VolumeRow, NDArray[np.bool_], NDArray[np.bool_]], ...]
    unknown: tuple[str, ...]


def score_case(case: LabelledVolume, assistant: Assistant, trained: Collection[str] = ()) -> ScoredVolume:
    """Ask a volume for all that is labelled in it, as in use: what the weights do not know there is not looked for.

    Args:
        trained: folders of volumes whose patients are among the training images.
    Raises:
        InputError: a file can't be read.
    """
    image, truths = case.read()
    names = scorable(assistant, list(truths))
    targets = {name: assistant.own_targets.get(name) or target_named(name) for name in names}
    asked = [target for target in targets.values() if assistant.unknown_because(target, image.modality) is None]
    started = time.perf_counter()
    findings = {f.target.name: f for f in assistant.find_targets(image, asked) if f.target is not None}
    seconds = round(time.perf_counter() - started, 2)

    def answers() -> Iterator[tuple[VolumeRow, NDArray[np.bool_], NDArray[np.bool_]]]:
        for name in names:
            finding = findings.get(name)
            # Unpacked once: a finding keeps its mask in bits.
            mask = None if finding is None else finding.mask
            found = np.zeros(image.grid.shape, dtype=bool) if mask is None else mask
            presence = None if finding is None else finding.presence
            yield (
                VolumeRow(
                    image=case.name,
                    modality=image.modality.value,
                    dataset=case.dataset,
                    patient=case.patient,
                    target=name,
                    status="" if finding is None else finding.status.value,
                    presence=float(found.any()) if presence is None else presence,
                    score=score_volume(found, truths[name], image.grid),
                    seconds=seconds,
                    is_trained_on=str(case.folder) in trained,
                ),
                found,
                truths[name],
            )

    return ScoredVolume(image, tuple(answers()), tuple(name for name in truths if name not in names))
