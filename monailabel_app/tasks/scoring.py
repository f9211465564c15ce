"""Scoring: how unsure the served model is of each image, and how far a submitted label is from its answer.

`scoring_methods(served)` gives the tasks for `MONAILabelApp.init_scoring_methods`. Scores lie in the image's record
under `rcmed`, with the weights that they belong to: those of other weights count as none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.tasks.scoring import ScoringMethod
from numpy.typing import NDArray

from monailabel_app.datastores.label_names import names_in
from monailabel_app.tasks.collecting import ModalityOf, modality_in, submitted_masks
from monailabel_app.tasks.served_version import ServedAssistant
from rcmed import Assistant
from rcmed.errors import RCMedError
from rcmed.image import Image
from rcmed.readers import read_images
from rcmed.site_learning.judging import agreement
from rcmed.site_learning.uncertainty import uncertainty
from rcmed.vocabulary import Target, resolve_targets

ENTROPY, DISAGREEMENT, DICE = "presence_entropy", "disagreement", "dice"
# Nobody said what to look for: so many of the targets that the modality can show.
MOST_TARGETS = 8
_KEY = "rcmed"


def scoring_methods(served: ServedAssistant, modality_of: ModalityOf = modality_in) -> dict[str, ScoringMethod]:
    """For `MONAILabelApp.init_scoring_methods`."""
    return {
        "uncertainty": UncertaintyScoring(served, modality_of),
        DICE: SubmittedDice(served, modality_of),
    }


def known_score(info: Mapping[str, Any], name: str, weights_sha256: str) -> float | None:
    """A score of an image's record, if it is of these weights."""
    kept = info.get(_KEY)
    if not isinstance(kept, dict) or kept.get("weights_sha256") != weights_sha256:
        return None
    value = kept.get(name)
    return float(value) if isinstance(value, int | float) else None


def score_image(
    served: ServedAssistant, datastore: Datastore, image_id: str, prompt: str, modality_of: ModalityOf
) -> dict[str, float]:
    """Measure an image's uncertainty and keep it in its record.

    Args:
        prompt: what will be annotated; blank: what was annotated so far, or what the modality can show.
    Raises:
        RCMedError: the image can't be read.
    """
    assistant = served.current()
    image = read_images(datastore.get_image_uri(image_id), modality_of(image_id, datastore.get_image_info(image_id)))[0]
    measured = uncertainty(assistant, image, _targets(assistant, image, datastore, prompt))
    scores = {ENTROPY: round(measured.presence_entropy, 6), DISAGREEMENT: round(measured.disagreement, 6)}
    _keep(datastore, image_id, assistant, scores)
    return scores


class UncertaintyScoring(ScoringMethod):  # type: ignore[misc]
    """Presence entropy and disagreement between wordings, of every image that has no submitted label."""

    def __init__(self, served: ServedAssistant, modality_of: ModalityOf = modality_in) -> None:
        super().__init__("How unsure the served model is: presence entropy, disagreement between wordings")
        self._served, self._modality_of = served, modality_of

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Score; returns the scores by image id, or what is wrong with the image."""
        result: dict[str, Any] = {}
        for image_id in sorted(datastore.get_unlabeled_images(DefaultLabelTag.FINAL.value)):
            try:
                result[image_id] = score_image(
                    self._served, datastore, image_id, str(request.get("prompt", "")), self._modality_of
                )
            except RCMedError as error:
                result[image_id] = {"error": str(error)}
        return result


class SubmittedDice(ScoringMethod):  # type: ignore[misc]
    """Dice of the served model's answer against the submitted label, as a mean over its targets."""

    def __init__(self, served: ServedAssistant, modality_of: ModalityOf = modality_in) -> None:
        super().__init__("Dice of the served model's answers against the submitted labels")
        self._served, self._modality_of = served, modality_of

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Score; returns Dice by image id and target, or what is wrong with the image or its label."""
        assistant = self._served.current()
        tag = DefaultLabelTag.FINAL.value
        result: dict[str, Any] = {}
        for image_id in sorted(datastore.get_labeled_images(tag)):
            label_id = datastore.get_label_by_image_id(image_id, tag)
            try:
                info = datastore.get_image_info(image_id)
                image = read_images(datastore.get_image_uri(image_id), self._modality_of(image_id, info))[0]
                masks = submitted_masks(datastore, image, label_id, tag, datastore.get_label_info(label_id, tag))
                result[image_id] = self._dice(assistant, image, masks)
            except RCMedError as error:
                result[image_id] = {"error": str(error)}
                continue
            if result[image_id]:
                _keep(datastore, image_id, assistant, {DICE: float(np.mean(list(result[image_id].values())))})
        return result

    @staticmethod
    def _dice(assistant: Assistant, image: Image, masks: Mapping[str, NDArray[np.bool_]]) -> dict[str, float]:
        drawn: dict[str, tuple[Target, NDArray[np.bool_]]] = {}
        for name, mask in masks.items():
            for target in resolve_targets(name, image.modality).targets[:1]:
                drawn[target.name] = target, mask
        findings = assistant.find_targets(image, [target for target, _ in drawn.values()])
        empty = np.zeros(image.grid.shape, dtype=bool)
        return {
            name: round(agreement(empty if finding.mask is None else finding.mask, mask), 6)
            for (name, (_, mask)), finding in zip(drawn.items(), findings, strict=True)
        }


def _targets(assistant: Assistant, image: Image, datastore: Datastore, prompt: str) -> Sequence[Target]:
    if prompt.strip():
        return resolve_targets(prompt, image.modality).targets
    tag = DefaultLabelTag.FINAL.value
    annotated: dict[str, Target] = {}
    for image_id in sorted(datastore.get_labeled_images(tag)):
        label_id = datastore.get_label_by_image_id(image_id, tag)
        for name in names_in(datastore.get_label_info(label_id, tag)):
            annotated |= {target.name: target for target in resolve_targets(name, image.modality).targets}
    shown = [target for target in annotated.values() if image.modality in target.modalities]
    return (shown or assistant.known_targets(image))[:MOST_TARGETS]


def _keep(datastore: Datastore, image_id: str, assistant: Assistant, scores: Mapping[str, float]) -> None:
    kept = datastore.get_image_info(image_id).get(_KEY)
    digest = assistant.identity.weights_sha256
    same = dict(kept) if isinstance(kept, dict) and kept.get("weights_sha256") == digest else {}
    datastore.update_image_info(image_id, {_KEY: {**same, "weights_sha256": digest, **scores}})
