"""Findings as a Key Object Selection (PS3.3 A.35.4, PS3.16 TID 2010): the slices in which something was found."""

from __future__ import annotations

import numpy as np
from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
from highdicom.sr import ImageContentItem, RelationshipTypeValues
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from dicom_bridge.results.codes import tracking_id, unlimited_text
from dicom_bridge.results.identifiers import ResultIdentifiers
from dicom_bridge.results.provenance import RESEARCH, made_by, tell_making
from dicom_bridge.results.reports.device_observer import observer
from dicom_bridge.results.reports.image_library import SOURCE
from dicom_bridge.results.segmentations.segments import segmented_findings
from dicom_bridge.results.sources.source import Source, as_secondary_capture, read_source
from rcmed.findings import Findings
from rcmed.image import Image

KIND = "key objects"
_SERIES_OFFSET = 2000


class _KeyObjects(KeyObjectSelectionDocument):
    """Of any source; highdicom itself knows no retired storage classes (PS3.4 B.6)."""

    def copy_patient_and_study_information(self, dataset: Dataset) -> None:
        """Copy what every image has of patient and study, as from a Secondary Capture."""
        super().copy_patient_and_study_information(as_secondary_capture(dataset))


def build_key_objects(findings: Findings, image: Image, identifiers: ResultIdentifiers) -> Dataset | None:
    """Build the selection "Of Interest" of every slice in which a finding has a region.

    A slice of a multi-frame instance is referred to by its frame number. The description names each finding with the
    range of its slices, and the prompt that asked for it.

    Args:
        findings: masks bool (slice, row, column) on the image's own grid.
        image: with source instances; their files are read again (headers only).
        identifiers: of the job; the same job gives the same UIDs.
    Returns:
        the selection; None where nothing was found: it must refer to something.
    Raises:
        InputError: the source can't hold a result.
    """
    numbers = segmented_findings(findings)
    if not numbers:
        return None
    source = read_source(image)
    shown = np.zeros(image.grid.shape[0], dtype=bool)
    lines = [f"{RESEARCH}, not verified."]
    for number in numbers:
        region = findings.findings[number].region
        assert region is not None
        slices = np.flatnonzero(region.areas)
        shown[slices] = True
        where = f"slices {slices[0] + 1} to {slices[-1] + 1}" if len(slices) > 1 else f"slice {slices[0] + 1}"
        prompt = findings.findings[number].prompt
        lines.append(f"{tracking_id(findings, number)}: {where}, of {len(shown)}; prompt: {prompt}")
    content = KeyObjectSelection(
        document_title=codes.DCM.OfInterest,
        referenced_objects=[source.headers[int(np.flatnonzero(shown)[0])]],
        observer_device_context=observer(findings.model),
        description=unlimited_text("\n".join(lines)),
    )
    # highdicom refers to whole instances; in their place each slice with its frame.
    content[0].ContentSequence[-1:] = _references(source, shown)
    document = _KeyObjects(
        evidence=_instances(source, shown),
        content=content,
        series_instance_uid=identifiers.series_uid_of(KIND),
        series_number=identifiers.series_number + _SERIES_OFFSET,
        series_description="RCMed key images",
        sop_instance_uid=identifiers.uid_of(KIND),
        instance_number=1,
        **made_by(findings, identifiers),
    )
    document.copy_patient_and_study_information(source.headers[0])
    tell_making(document, findings, identifiers)
    return document


def _instances(source: Source, shown: np.ndarray) -> list[Dataset]:
    """Each instance once; the first whole: highdicom takes patient, study and equipment from it."""
    numbers = [int(number) for number in np.flatnonzero(shown)]
    headers = [source.whole_header(numbers[0]), *(source.headers[number] for number in numbers[1:])]
    by_uid: dict[str, Dataset] = {}
    for header in headers:
        by_uid.setdefault(str(header.SOPInstanceUID), header)
    return list(by_uid.values())


def _references(source: Source, shown: np.ndarray) -> list[ImageContentItem]:
    frames: dict[tuple[str, str], list[int]] = {}
    for number in np.flatnonzero(shown):
        reference = source.references[number]
        referred = frames.setdefault((reference.sop_class_uid, reference.sop_instance_uid), [])
        if reference.frame_number is not None:
            referred.append(reference.frame_number)
    return [
        ImageContentItem(
            SOURCE,
            sop_class,
            uid,
            referenced_frame_numbers=sorted(numbers) or None,
            relationship_type=RelationshipTypeValues.CONTAINS,
        )
        for (sop_class, uid), numbers in frames.items()
    ]
