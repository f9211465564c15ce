"""The messages of one image as files, which deliveries take from there."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from dicom_bridge.messages.content import report_content
from dicom_bridge.messages.oru import build_oru
from dicom_bridge.messages.resources import build_bundle
from dicom_bridge.results.filing import FiledResults
from dicom_bridge.results.identifiers import ResultIdentifiers
from dicom_bridge.results.kinds import MESSAGE_FILES, MessageKind
from dicom_bridge.results.sources.source import KnownSources, sources_read_once
from rcmed.durable_files import write_durably
from rcmed.errors import InputError
from rcmed.findings import Findings
from rcmed.image import Image

_BUILDERS = {MessageKind.HL7: build_oru, MessageKind.FHIR: build_bundle}


def file_messages(
    image: Image,
    findings: Findings,
    identifiers: ResultIdentifiers,
    folder: Path,
    kinds: Collection[MessageKind],
    pages: bytes | None = None,
    known: KnownSources | None = None,
) -> FiledResults:
    """Write the messages of these kinds into `folder`, each there whole or not at all.

    Args:
        image, findings, identifiers, known: as `build_objects` has them.
        folder: where.
        kinds: which messages.
        pages: of the report to read, a PDF, which the messages then hold.
    Raises:
        OSError: the folder can't be written.
    """
    try:
        with sources_read_once(known):
            content = report_content(image, findings, identifiers, pages)
    except InputError as error:
        return FiledResults((), (f"no message is written: {error}",))
    files, refusals = [], []
    for kind in kinds:
        try:
            built = _BUILDERS[kind](content)
        except ImportError as error:
            refusals.append(f"no {kind.upper()} is written: it needs {error.name}; pip install 'rcmed[gateway]'")
            continue
        except InputError as error:
            refusals.append(f"no {kind.upper()} is written: {error}")
            continue
        files.append(folder / MESSAGE_FILES[kind])
        write_durably(files[-1], built)
    return FiledResults(tuple(files), tuple(refusals))
