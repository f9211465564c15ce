"""A submitted label as a DICOM SEG beside its series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from highdicom.seg import SegmentAlgorithmTypeValues
from pydicom.dataset import Dataset

from dicom_bridge.results.identifiers import ResultIdentifiers
from dicom_bridge.results.segmentations.authorship import Authorship
from dicom_bridge.results.segmentations.segmentation import build_segmentation
from dicom_bridge.results.sources.source import read_source
from monailabel_app.datastores.dicom.archived_labels import ORIGINAL, series_description
from monailabel_app.datastores.label_files import NamedMask, read_label
from rcmed.errors import InputError
from rcmed.findings import Finding, Findings, FindingStatus, ModelIdentity
from rcmed.image import Image
from rcmed.vocabulary import target_called

_SERIES_NUMBER = 9100


@dataclass(frozen=True)
class Submission:
    """What is sent with a label.

    Attributes:
        image_id: of the image that it belongs to.
        tag: "final", "original" or a user's own, validated.
        info: as sent: `label_info` (names), `user`, `model` and `model_identity` (what helped), `params`.
        has_model_result: whether a result of the model is stored for the image.
    """

    image_id: str
    tag: str
    info: Mapping[str, Any]
    has_model_result: bool = False

    @property
    def user(self) -> str:
        """Who submitted it; "" where nobody knows."""
        user = self.info.get("user") or self.info.get("annotator") or ""
        return " ".join(user.split()) if isinstance(user, str) else ""

    @property
    def algorithm_type(self) -> SegmentAlgorithmTypeValues:
        """AUTOMATIC for the model's own, SEMIAUTOMATIC where the model helped, else MANUAL."""
        if self.tag == ORIGINAL:
            return SegmentAlgorithmTypeValues.AUTOMATIC
        helped = self.has_model_result or any(self.info.get(key) for key in ("model", "model_identity"))
        return SegmentAlgorithmTypeValues.SEMIAUTOMATIC if helped else SegmentAlgorithmTypeValues.MANUAL


def build_submission(submission: Submission, path: Path, image: Image, created: datetime) -> Dataset:
    """Build the SEG of a submitted label.

    Args:
        submission: whose label it is.
        path: the label's file, see `label_files.read_label`.
        image: with source instances.
        created: when; a label that is submitted again is another SEG.
    Returns:
        a BINARY SEG, research and unverified, with a segment for each name that has a voxel, under that very name.
    Raises:
        InputError: the label is unreadable, empty, on another grid, or the series can't hold a SEG; with the reason.
    """
    segments = read_label(path, image, submission.info)
    if not segments:
        raise InputError(f"{path.name}: the label is empty; nothing was stored")
    findings = Findings(
        tuple(_finding(segment, image) for segment in segments), _identity(submission), image.grid, image.modality
    )
    authorship = Authorship(
        submission.algorithm_type,
        creator=submission.user,
        content_label="LABEL",
        content_description=f"Label submitted for annotation, tag {submission.tag}",
        series_description=series_description(submission.tag),
    )
    job = "\n".join((submission.image_id, submission.tag, submission.user, created.isoformat()))
    identifiers = ResultIdentifiers.derive(job, created, _SERIES_NUMBER)
    segmentation = build_segmentation(findings, image, identifiers, authorship)
    if segmentation is None:
        reason = read_source(image).segmentation_refusal or "its regions are empty"
        raise InputError(f"{path.name}: no SEG can be stored: {reason}")
    return segmentation


def segment_names(segmentation: Dataset) -> Sequence[str]:
    """Segment Labels of a SEG, in its order."""
    return [str(segment.SegmentLabel) for segment in segmentation.SegmentSequence]


def _finding(segment: NamedMask, image: Image) -> Finding:
    return Finding(
        segment.name, target_called(segment.name, image.modality), FindingStatus.FOUND, presence=1.0, mask=segment.mask
    )


def _identity(submission: Submission) -> ModelIdentity:
    """The model that drew or helped, as the server told it; else this software, which only filed the label."""
    model = submission.info.get("model_identity")
    if isinstance(model, Mapping):
        return ModelIdentity(*(str(model.get(key) or "unknown") for key in ("name", "version", "weights_sha256")))
    name = submission.info.get("model")
    if isinstance(name, str) and name:
        return ModelIdentity(name, version("rcmed"), "unknown")
    return ModelIdentity("RCMed annotation", version("rcmed"), "none")
