"""The DICOM objects that answer one image, of the kinds that were asked for."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from pydicom.dataset import Dataset

from dicom_bridge.results.documents.encapsulated_pdf import build_document
from dicom_bridge.results.identifiers import ResultIdentifiers
from dicom_bridge.results.kinds import (
    CAPTURE_FILE,
    DEFAULT_RESULTS,
    DOCUMENT_FILE,
    KEY_OBJECTS_FILE,
    REPORT_FILE,
    SEGMENTATION_FILE,
    STRUCTURE_SET_FILE,
    ResultKind,
)
from dicom_bridge.results.pictures.capture import build_captures
from dicom_bridge.results.reports.key_objects import build_key_objects
from dicom_bridge.results.reports.report import build_report
from dicom_bridge.results.segmentations.segmentation import build_segmentation
from dicom_bridge.results.segmentations.slides import NoSlideSegmentationError
from dicom_bridge.results.sources.source import KnownSources, read_source, sources_read_once
from dicom_bridge.results.structure_set import build_structure_set
from rcmed.errors import InputError
from rcmed.findings import Findings
from rcmed.image import Image


@dataclass(frozen=True, eq=False)
class ResultObjects:
    """What is written for one image.

    Attributes:
        datasets: file name -> object. Of a SEG, a secondary capture, a key object selection and a structure set there
            is none where nothing was found.
        refusals: a line for each object that was asked for and can't be made though something was found.
        losses: a line for each attribute of the source that can't be copied as it is.
    """

    datasets: dict[str, Dataset]
    refusals: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()

    def files(self) -> Iterator[tuple[str, memoryview]]:
        """Name and content of each DICOM file."""
        for name, dataset in self.datasets.items():
            buffer = io.BytesIO()
            dataset.save_as(buffer, enforce_file_format=True)
            yield name, buffer.getbuffer()


def build_objects(
    image: Image,
    findings: Findings,
    identifiers: ResultIdentifiers,
    kinds: Collection[ResultKind] = DEFAULT_RESULTS,
    predecessors: Sequence[Dataset] = (),
    known: KnownSources | None = None,
) -> ResultObjects:
    """Build the objects of these kinds for the findings in one image; the report refers to the SEG where both are.

    Args:
        image, findings, identifiers: as `build_segmentation` has them.
        kinds: which objects.
        predecessors: reports of earlier generations, to which this one refers.
        known: of the image's source, what need not be read again.
    Raises:
        InputError: the source can't hold a result.
        GridMismatchError: findings, image and source do not lie on one grid.
    """
    with sources_read_once(known):
        return _build(image, findings, identifiers, kinds, predecessors)


def _build(
    image: Image,
    findings: Findings,
    identifiers: ResultIdentifiers,
    kinds: Collection[ResultKind],
    predecessors: Sequence[Dataset],
) -> ResultObjects:
    datasets: dict[str, Dataset | None] = {}
    refusals: list[str] = []
    with suppress(InputError):  # whoever needs the source says so below
        identifiers = replace(identifiers, source=read_source(image).series_name)
    if ResultKind.SEG in kinds:
        segmentation, reason = None, None
        try:
            segmentation = datasets[SEGMENTATION_FILE] = build_segmentation(findings, image, identifiers)
        except NoSlideSegmentationError as error:
            reason = str(error)
        if segmentation is None and any(finding.is_present for finding in findings.findings):
            reason = reason or read_source(image).segmentation_refusal or "every region is empty"
            refusals.append(f"no SEG is written: {reason}")
    if ResultKind.SR in kinds:
        datasets[REPORT_FILE] = build_report(
            findings, image, datasets.get(SEGMENTATION_FILE), identifiers, predecessors
        )
    if ResultKind.SECONDARY_CAPTURE in kinds:
        for number, capture in enumerate(build_captures(findings, image, identifiers), start=1):
            datasets[CAPTURE_FILE.format(number)] = capture
    if ResultKind.KEY_OBJECTS in kinds:
        datasets[KEY_OBJECTS_FILE] = build_key_objects(findings, image, identifiers)
    if ResultKind.RTSTRUCT in kinds:
        try:
            datasets[STRUCTURE_SET_FILE] = build_structure_set(findings, image, identifiers)
        except InputError as error:
            refusals.append(f"no RTSTRUCT is written: {error}")
    if ResultKind.PDF in kinds:
        try:
            datasets[DOCUMENT_FILE] = build_document(findings, image, identifiers)
        except ImportError as error:
            refusals.append(f"no PDF is written: it needs {error.name}; pip install 'rcmed[gateway]'")
    made = {name: built for name, built in datasets.items() if built is not None}
    return ResultObjects(made, tuple(refusals), read_source(image).losses if made else ())
