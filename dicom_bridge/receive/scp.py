"""The storage SCP: C-ECHO, and C-STORE of every storage class in every transfer syntax.

The data set goes to disk as it was encoded; only the header elements that name it are read. Success (0x0000) is
answered after the file, its folder and its row in the index are durable, so an acknowledged instance survives a crash.
Statuses: PS3.4 B.2.3 (A7xx out of resources, A9xx data set does not match SOP class, Cxxx cannot understand).
"""

from __future__ import annotations

import filecmp
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import AllTransferSyntaxes
from pynetdicom import AE, _config, evt
from pynetdicom.dsutils import encode_file_meta
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]
from sqlalchemy.exc import DBAPIError

from dicom_bridge.routing import SeriesFacts
from dicom_bridge.settings import ReceiveSettings
from dicom_bridge.store.files import InstanceFiles, require_uid
from dicom_bridge.store.index import ReceivedInstance, StudyIndex
from rcmed.errors import InputError

SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
SOP_CLASS_MISMATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000

_LOG = logging.getLogger(__name__)
_HEADER = (
    "SpecificCharacterSet",
    "SOPClassUID",
    "SOPInstanceUID",
    "Modality",
    "StudyDescription",
    "SeriesDescription",
    "BodyPartExamined",
    "ProtocolName",
    "StudyInstanceUID",
    "SeriesInstanceUID",
)


class RefusedInstanceError(InputError):
    """An instance that can't be stored; `status` is what the sender is told."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class _Association:
    identifier: str
    calling_ae: str
    called_ae: str


class StorageScp:
    """Listens, stores, indexes, answers."""

    def __init__(
        self,
        settings: ReceiveSettings,
        files: InstanceFiles,
        index: StudyIndex,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare without listening.

        Args:
            settings: address, AE title, limits.
            files: where instances go; its root is the folder that paths in the index are relative to.
            index: where they are recorded.
            on_change: called after an instance was recorded or an association ended, from a thread of the network.
        """
        self._settings = settings
        self._files = files
        self._index = index
        self._on_change = on_change
        self._associations: dict[Any, _Association] = {}
        self._lock = threading.Lock()
        self._server: Any = None
        self._ae: AE | None = None

    @property
    def port(self) -> int:
        """The port on which it listens; 0 before the start."""
        return 0 if self._server is None else int(self._server.server_address[1])

    def start(self) -> None:
        """Listen, in threads of their own.

        Raises:
            OSError: the address is taken.
        """
        # Both are switches of the whole process. The first makes the SCP take private and retired storage classes
        # and any transfer syntax, which a store that never decodes may do; the second skips log handlers that
        # format every message for nobody.
        _config.UNRESTRICTED_STORAGE_SERVICE = True
        _config.LOG_HANDLER_LEVEL = "none"
        ae = AE(self._settings.ae_title)
        ae.maximum_associations = self._settings.maximum_associations
        ae.maximum_pdu_size = self._settings.maximum_pdu
        ae.network_timeout = self._settings.idle_seconds
        ae.require_called_aet = self._settings.require_called_ae
        ae.add_supported_context(Verification, [uid for uid in AllTransferSyntaxes if not uid.is_compressed])
        handlers = [
            (evt.EVT_C_ECHO, lambda event: SUCCESS),
            (evt.EVT_C_STORE, self._on_store),
            (evt.EVT_RELEASED, self._on_end),
            (evt.EVT_ABORTED, self._on_end),
            (evt.EVT_CONN_CLOSE, self._on_end),
        ]
        self._ae = ae
        address = (self._settings.host, self._settings.port)
        self._server = ae.start_server(address, block=False, evt_handlers=handlers)  # type: ignore[arg-type]

    def stop(self) -> None:
        """Stop listening and abort what is still associated; acknowledged instances are safe already."""
        if self._ae is not None:
            self._ae.shutdown()
        self._server = self._ae = None

    def _on_store(self, event: Any) -> Dataset:
        try:
            self._require_free_disk()
            self._store(event)
        except RefusedInstanceError as error:
            return self._refusal(event, error.status, str(error))
        except InputError as error:
            return self._refusal(event, CANNOT_UNDERSTAND, str(error))
        except (OSError, DBAPIError) as error:
            # Disk full, quota, a failing disk, a locked database: the instance may be sound, so the sender should
            # try again later.
            reason = error.strerror if isinstance(error, OSError) else str(error.orig)
            return self._refusal(event, OUT_OF_RESOURCES, f"can't be written: {reason}")
        answer = Dataset()
        answer.Status = SUCCESS
        return answer

    def _refusal(self, event: Any, status: int, text: str) -> Dataset:
        calling = str(event.assoc.requestor.ae_title).strip()
        uid = str(event.request.AffectedSOPInstanceUID)
        line = f"instance {uid} from {calling} refused with status 0x{status:04X}: {text}"
        try:
            self._index.add_line(line)
        except DBAPIError:
            _LOG.error("%s (this line can't be kept in the index)", line)
        answer = Dataset()
        answer.Status = status
        answer.ErrorComment = text.encode("ascii", "replace").decode()[:64]
        return answer

    def _require_free_disk(self) -> None:
        free = self._files.free_megabytes()
        if free < self._settings.minimum_free_megabytes:
            raise RefusedInstanceError(
                OUT_OF_RESOURCES,
                f"{free:.0f} MB free, receive.minimum_free_megabytes asks for {self._settings.minimum_free_megabytes}",
            )

    def _store(self, event: Any) -> None:
        data = event.request.DataSet
        if data is None or not data.getbuffer().nbytes:
            raise RefusedInstanceError(CANNOT_UNDERSTAND, "no data set came with the request")
        parts = (b"\0" * 128 + b"DICM" + encode_file_meta(event.file_meta), data.getbuffer())
        incoming = self._files.write_incoming(parts)
        try:
            association = self._association(event.assoc)
            instance = self._describe(incoming, event, association)
            destination = self._files.root / instance.path
            known = self._index.instance_path(instance.study_uid, instance.series_uid, instance.instance_uid)
            if known is not None:
                self._say_if_different(incoming, self._files.root / known, instance)
                return
            self._files.keep(incoming, destination)
            self._index.record_instance(instance, association.identifier)
        finally:
            incoming.unlink(missing_ok=True)
        self._on_change()

    def _describe(self, path: Path, event: Any, association: _Association) -> ReceivedInstance:
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_HEADER))
            values = {name: _text(header, name) for name in _HEADER[1:]}
        except OSError:
            raise
        except Exception as error:  # pydicom raises whatever its parser met; the sender is told which
            raise RefusedInstanceError(
                CANNOT_UNDERSTAND, f"the data set can't be parsed ({type(error).__name__}): mend or resend it"
            ) from None
        study = require_uid(values["StudyInstanceUID"], "Study Instance UID (0020,000D)")
        series = require_uid(values["SeriesInstanceUID"], "Series Instance UID (0020,000E)")
        uid = require_uid(values["SOPInstanceUID"], "SOP Instance UID (0008,0018)")
        sop_class = require_uid(values["SOPClassUID"], "SOP Class UID (0008,0016)")
        if sop_class != event.request.AffectedSOPClassUID:
            raise RefusedInstanceError(SOP_CLASS_MISMATCH, "SOP Class UID (0008,0016) differs from the request's")
        if uid != event.request.AffectedSOPInstanceUID:
            raise RefusedInstanceError(CANNOT_UNDERSTAND, "SOP Instance UID (0008,0018) differs from the request's")
        return ReceivedInstance(
            study_uid=study,
            series_uid=series,
            instance_uid=uid,
            sop_class_uid=sop_class,
            transfer_syntax_uid=str(event.context.transfer_syntax),
            path=str(self._files.path_of(study, series, uid).relative_to(self._files.root)),
            facts=SeriesFacts(
                modality=values["Modality"],
                body_part=values["BodyPartExamined"],
                study_description=values["StudyDescription"],
                series_description=values["SeriesDescription"],
                protocol_name=values["ProtocolName"],
                calling_ae=association.calling_ae,
                called_ae=association.called_ae,
            ),
        )

    def _say_if_different(self, incoming: Path, known: Path, instance: ReceivedInstance) -> None:
        if not filecmp.cmp(incoming, known, shallow=False):
            self._index.add_line(
                f"instance {instance.instance_uid} came again with other content: the first one is kept",
                level="warning",
                study_uid=instance.study_uid,
                series_uid=instance.series_uid,
            )

    def _association(self, association: Any) -> _Association:
        with self._lock:
            known = self._associations.get(association)
            if known is None:
                calling = str(association.requestor.ae_title).strip()
                called = str(association.requestor.primitive.called_ae_title).strip()
                peer = f"{association.requestor.address}:{association.requestor.port}"
                known = _Association(self._index.open_association(calling, called, peer), calling, called)
                self._associations[association] = known
            return known

    def _on_end(self, event: Any) -> None:
        with self._lock:
            known = self._associations.pop(event.assoc, None)
        if known is not None:
            self._index.release_association(known.identifier)
            self._on_change()


def _text(header: Dataset, name: str) -> str | None:
    value = header.get(name)
    if value is None:
        return None
    return str(value).strip() or None
