"""A PACS in this process that keeps what it is sent by its UID, and can be away for a while."""

from __future__ import annotations

import hashlib
import socket
import threading
from dataclasses import dataclass, field
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.sop_class import Comprehensive3DSRStorage, SegmentationStorage  # type: ignore[attr-defined]


@dataclass
class KeptObject:
    """One object.

    Attributes:
        modality, study_uid: of the object.
        contents: SHA-256 of its data set, each time that it came.
    """

    modality: str
    study_uid: str
    contents: list[str] = field(default_factory=list)


class ResilientPacs:
    """Used with the `with` statement.

    Attributes:
        objects: by SOP Instance UID.
        port: the same over all its lives.
    """

    ae_title = "PACS"

    def __init__(self) -> None:
        self.objects: dict[str, KeptObject] = {}
        self._lock = threading.Lock()
        self._server: Any = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])

    def __enter__(self) -> ResilientPacs:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        entity = AE(self.ae_title)
        for context in (SegmentationStorage, Comprehensive3DSRStorage):
            entity.add_supported_context(context)
        handlers = [(evt.EVT_C_STORE, self._keep)]
        self._server = entity.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers)

    def stop(self) -> None:
        """Away; whoever is connected loses the connection."""
        if self._server is not None:
            self._server.shutdown()
        self._server = None

    def _keep(self, event: Any) -> int:
        dataset = event.dataset
        content = hashlib.sha256(event.request.DataSet.getvalue()).hexdigest()
        with self._lock:
            told = KeptObject(str(dataset.Modality), str(dataset.StudyInstanceUID))
            self.objects.setdefault(str(dataset.SOPInstanceUID), told).contents.append(content)
        return 0x0000
