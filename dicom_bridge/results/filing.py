"""The results of one image as files: for `rcmed find` (through `rcmed.writers`) and for the jobs of the gateway."""

from __future__ import annotations

import gc
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset

from dicom_bridge.results.identifiers import ResultIdentifiers
from dicom_bridge.results.objects import (
    CAPTURE_FILE,
    KEY_OBJECTS_FILE,
    REPORT_FILE,
    SEGMENTATION_FILE,
    STRUCTURE_SET_FILE,
    build_objects,
)
from dicom_bridge.results.source import KnownSources
from dicom_bridge.routing import DEFAULT_RESULTS, ResultKind
from dicom_bridge.store.files import write_durably
from rcmed.answering import AnswerWriter
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
    """

    files: tuple[Path, ...]
    refusals: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()


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
    with _collector_paused():
        try:
            objects = build_objects(image, findings, identifiers, kinds, predecessors, known)
        except InputError as error:
            return FiledResults((), (f"no {_in_words(kinds)} are written: {error}",))
        for name, content in objects.files():
            write_durably(folder / name, content)
            files.append(folder / name)
    return FiledResults(tuple(files), objects.refusals, objects.losses)


class _DicomWriter:
    """The objects beside the other answers of one image (`rcmed.answering.AnswerWriter`)."""

    file_names: Sequence[str] = (
        *(SEGMENTATION_FILE, REPORT_FILE, KEY_OBJECTS_FILE, STRUCTURE_SET_FILE),
        CAPTURE_FILE.format("[0-9]*"),
    )

    def require_kinds(self, kinds: Sequence[str]) -> None:
        """Whether all of them are of `ResultKind`; raises InputError where one is not."""
        for kind in kinds:
            if kind not in set(ResultKind):
                raise InputError(f"--results: {kind!r} is no result: use {', '.join(ResultKind)}")

    def __call__(self, image: Image, findings: Findings, folder: Path, kinds: Sequence[str] = ()) -> list[str]:
        """Write objects; images that did not come from DICOM are passed over.

        UIDs derive from the series, its instances, the weights and the instruction: asked again, the results are the
        same.

        Args:
            image, findings: what is written.
            folder: where.
            kinds: of `ResultKind`; none: SEG and SR.
        Returns:
            a line for each object that can't be written, with the reason, and for each attribute that is not in them
            as it was in the source.
        Raises:
            InputError: a kind is not known.
        """
        self.require_kinds(kinds)
        if not image.sources:
            return []
        identity = [
            *(f"{source.sop_instance_uid}/{source.frame_number}" for source in image.sources),
            findings.model.weights_sha256,
            *(finding.prompt for finding in findings.findings),
        ]
        identifiers = ResultIdentifiers.derive("\n".join(identity))
        wanted = [ResultKind(kind) for kind in kinds] or DEFAULT_RESULTS
        filed = file_results(image, findings, identifiers, folder, wanted)
        return [*filed.refusals, *filed.losses]


write_results: AnswerWriter = _DicomWriter()


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Objects by the ten thousand are made here and all of them are needed: looking for garbage takes a fifth more."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _in_words(kinds: Collection[ResultKind]) -> str:
    return " and ".join(kind.upper().replace("_", " ") for kind in ResultKind if kind in kinds)
