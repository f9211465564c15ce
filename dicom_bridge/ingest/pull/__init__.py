"""Studies are fetched from archives when someone asks: ordered durably, paced, and never twice."""

from __future__ import annotations

from dicom_bridge.ingest.pull.dicomweb import DicomWebArchive
from dicom_bridge.ingest.pull.query_retrieve import QueryRetrieveArchive
from dicom_bridge.ingest.pull.source import Source
from dicom_bridge.settings import AnySource, DicomWebSource, PullSettings


def open_source(name: str, settings: AnySource, pull: PullSettings, our_ae: str) -> Source:
    """The archive that a configuration names; nothing is connected yet.

    Args:
        name: under which it is configured.
        settings: of the archive.
        pull: how long answers may take.
        our_ae: the AE title of our DICOM port, where C-MOVE sends to.
    Raises:
        ConfigurationError: a file that the settings name can't be used.
    """
    if isinstance(settings, DicomWebSource):
        return DicomWebArchive(name, settings, pull.timeout_seconds)
    return QueryRetrieveArchive(name, settings, pull.timeout_seconds, our_ae)
