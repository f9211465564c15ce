"""The receiving side of the demo: an application entity on loopback that plays the PACS and takes the results."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]
from pynetdicom.transport import ThreadedAssociationServer

SUCCESS = 0x0000
CANNOT_UNDERSTAND = 0xC000  # PS3.4 table B.2-1


class Archive:
    """A storage SCP that keeps what it receives and wakes whoever waits for it.

    Attributes:
        folder: files lie here as `<SOP Instance UID>.dcm`.
        ae_title: its name.
    """

    def __init__(self, folder: Path, ae_title: str = "PACS") -> None:
        self.folder = folder
        self.ae_title = ae_title
        self._paths: list[Path] = []
        self._changed = threading.Condition()
        self._server: ThreadedAssociationServer | None = None

    def __enter__(self) -> Archive:
        self.folder.mkdir(parents=True, exist_ok=True)
        entity = AE(ae_title=self.ae_title)
        for context in AllStoragePresentationContexts:
            entity.add_supported_context(str(context.abstract_syntax))
        entity.add_supported_context(Verification)
        server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)])
        assert server is not None
        self._server = server
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server = None

    @property
    def port(self) -> int:
        """The port it listens on, on 127.0.0.1."""
        assert self._server is not None, "the archive listens only inside its `with` block"
        return int(self._server.server_address[1])

    def received(self) -> list[Dataset]:
        """What has come so far, in the order of arrival."""
        with self._changed:
            paths = list(self._paths)
        return [dcmread(path) for path in paths]

    def wait_until(self, done: Callable[[Sequence[Dataset]], bool], seconds: float) -> bool:
        """Wait until `done` says so of everything received; asked again at each arrival.

        Returns:
            False when `seconds` passed before.
        """
        deadline = time.monotonic() + seconds
        while True:
            with self._changed:
                count = len(self._paths)
            if done(self.received()):
                return True
            with self._changed:
                if not self._changed.wait_for(lambda: len(self._paths) > count, deadline - time.monotonic()):  # noqa: B023
                    return False

    def _store(self, event: Event) -> int:
        uid = UID(str(getattr(event.request, "AffectedSOPInstanceUID", "")))
        if not uid.is_valid:
            return CANNOT_UNDERSTAND
        path = self.folder / f"{uid}.dcm"
        path.write_bytes(event.encoded_dataset())
        with self._changed:
            if path not in self._paths:
                self._paths.append(path)
            self._changed.notify_all()
        return SUCCESS
