"""The results of one image as files: for `rcmed find` and for the jobs of the gateway."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset

from dicom_bridge.results.documents.encapsulated_pdf import pages_of
from dicom_bridge.results.identifiers import ResultIdentifiers
from dicom_bridge.results.kinds import DEFAULT_RESULTS, DOCUMENT_FILE, ResultKind
from dicom_bridge.results.objects import build_objects
from dicom_bridge.results.sources.source import KnownSources
from rcmed.durable_files import write_durably
from rcmed.errors import InputError
from rcmed.findings import Findings
from rcmed.image import Image


@dataclass(frozen=True)
class FiledResults:
    """What was written of one image's results.

    Attributes:
        files: of the objects, in the order of `ResultKind`.
        refusals: a line for each thing that is not written, and why.
        losses: a line for each attribute of the source that is not in them as it was there.
        pages: of the report to read, a PDF; None where it is not among them.
    """

    files: tuple[Path, ...]
    refusals: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()
    pages: bytes | None = None


def file_results(
    image: Image,
    findings: Findings,
    identifiers: ResultIdentifiers,
    folder: Path,
    kinds: Collection[ResultKind] = DEFAULT_RESULTS,
    predecessors: Sequence[Dataset] = (),
    known: KnownSources | None = None,
) -> FiledResults:
    """Write the objects of these kinds into `folder`, each there whole or not at all; `build_objects` has the rest.

    Raises:
        OSError: the folder can't be written.
    """
    files = []
    try:
        objects = build_objects(image, findings, identifiers, kinds, predecessors, known)
    except InputError as error:
        return FiledResults((), (f"no {_in_words(kinds)} are written: {error}",))
    for name, content in objects.files():
        write_durably(folder / name, content)
        files.append(folder / name)
    document = objects.datasets.get(DOCUMENT_FILE)
    pages = None if document is None else pages_of(document)
    return FiledResults(tuple(files), objects.refusals, objects.losses, pages)


def _in_words(kinds: Collection[ResultKind]) -> str:
    return " and ".join(kind.upper().replace("_", " ") for kind in ResultKind if kind in kinds)
