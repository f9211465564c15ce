"""The storage SCP: C-ECHO, and C-STORE of every storage class in every transfer syntax.

Who may associate is judged when it asks (PS3.8 9.3.4 has the reasons of a rejection); what comes goes through the
intake, and the answer to a C-STORE is sent when the instance is durable (PS3.4 B.2.3 has the statuses).
"""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import AllTransferSyntaxes
from pynetdicom import AE, _config, evt
from pynetdicom.pdu_primitives import A_ASSOCIATE, A_RELEASE
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification  # type: ignore[attr-defined]
from sqlalchemy.exc import DBAPIError

from dicom_bridge.events.sink import Observer
from dicom_bridge.ingest.dimse.commitment import CommitmentScp
from dicom_bridge.ingest.dimse.server import GuardedServer
from dicom_bridge.ingest.dimse.store_messages import StoreAnswer, StoreRequest
from dicom_bridge.ingest.intake import (
    CANNOT_UNDERSTAND,
    OUT_OF_RESOURCES,
    SUCCESS,
    InstanceIntake,
    Origin,
    RefusedInstanceError,
)
from dicom_bridge.security.limits import WaitingRoom
from dicom_bridge.security.peers import Caller, KnownPeers, Refusal
from dicom_bridge.security.tls import fingerprint, server_context
from dicom_bridge.settings import ReceiveSettings
from dicom_bridge.store.files.instance_files import UnsafeUidError, require_uid

_LOG = logging.getLogger(__name__)
# The guarded server limits associations itself: pynetdicom would count connections that have not asked yet.
_NO_LIMIT = 1_000_000


@dataclass
class _Association:
    """An established association; `origin` from its first instance on, `is_released` once its peer asked for that."""

    caller: Caller
    peer: str | None
    address: str
    origin: Origin | None = None
    is_released: bool = False


class StorageScp:
    """Listens, judges callers, stores, answers."""

    def __init__(
        self,
        settings: ReceiveSettings,
        intake: InstanceIntake,
        observer: Observer | None = None,
        commitment: CommitmentScp | None = None,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare without listening.

        Args:
            settings: address, AE title, peers, limits.
            intake: takes the instances.
            observer: is told of associations and instances.
            commitment: answers storage commitment; None: it is not offered.
            on_change: called after an association ended, from a thread of the network.
        Raises:
            ConfigurationError: a file of the TLS settings can't be used.
        """
        self._settings = settings
        self._intake = intake
        self._observer = observer or Observer()
        self._commitment = commitment
        self._on_change = on_change
        self._peers = KnownPeers(settings.peers, settings.ae_title, settings.require_called_ae)
        self._tls: ssl.SSLContext | None = None if settings.tls is None else server_context(settings.tls, "receive.tls")
        self._associations: dict[Any, _Association] = {}
        self._lock = threading.Lock()
        self._server: GuardedServer | None = None
        self._waiting = WaitingRoom(settings.association_seconds, settings.maximum_waiting, self._on_shut)

    @property
    def port(self) -> int:
        """The port on which it listens; 0 before the start."""
        return 0 if self._server is None else int(self._server.server_address[1])

    @property
    def association_count(self) -> int:
        """Associations that are established now."""
        return len(self._associations)

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
        settings = self._settings
        ae = AE(settings.ae_title)
        ae.maximum_associations = _NO_LIMIT
        ae.maximum_pdu_size = settings.maximum_pdu
        ae.network_timeout = settings.idle_seconds
        ae.acse_timeout = settings.association_seconds
        ae.add_supported_context(Verification, [uid for uid in AllTransferSyntaxes if not uid.is_compressed])
        handlers: list[Any] = [
            (evt.EVT_REQUESTED, self._on_requested),
            (evt.EVT_C_ECHO, lambda event: SUCCESS),
            (evt.EVT_C_STORE, self._on_store),
            (evt.EVT_ACSE_RECV, self._on_request),
            (evt.EVT_RELEASED, self._on_end),
            (evt.EVT_ABORTED, self._on_end),
            (evt.EVT_CONN_CLOSE, self._on_end),
        ]
        if self._commitment is not None:
            ae.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
            handlers += [
                (evt.EVT_N_ACTION, self._commitment.on_action),
                (evt.EVT_N_EVENT_REPORT, self._commitment.on_report),
            ]
        host = "127.0.0.1" if settings.host == "localhost" else settings.host
        self._server = GuardedServer(
            ae,
            (host, settings.port),
            settings.ae_title,
            ae.supported_contexts,
            self._tls,
            handlers,
            waiting=self._waiting,
            may_connect=self._peers.may_connect,
            on_refused=self._observer.connection_refused,
            longest_message=self._intake.maximum_bytes,
            store=self._store,
        )
        self._server.start()

    def stop(self) -> None:
        """Stop listening and abort what is still associated; acknowledged instances are safe already."""
        if self._server is not None:
            self._server.stop()
        self._server = None

    # associations

    def _on_requested(self, event: Any) -> None:
        association = event.assoc
        self._waiting.leave(association.dul.socket.socket)
        primitive = association.requestor.primitive
        if not isinstance(primitive, A_ASSOCIATE):  # the connection ended before it asked
            association.kill()
            return
        try:
            refusal = self._admit(association, primitive)
        except Exception:
            # pynetdicom logs what a handler of this event raises and goes on: who can't be judged would be let in.
            _LOG.exception("a caller could not be judged and is rejected")
            refusal = Refusal.NO_REASON
        if refusal is not None:
            association.acse.send_reject(*refusal.value)
            association.kill()

    def _admit(self, association: Any, primitive: A_ASSOCIATE) -> Refusal | None:
        connection = association.dul.socket.socket
        certificate = connection.getpeercert(binary_form=True) if isinstance(connection, ssl.SSLSocket) else None
        caller = Caller(
            calling_ae=str(primitive.calling_ae_title).strip(),
            called_ae=str(primitive.called_ae_title).strip(),
            address=str(association.requestor.address),
            certificate=fingerprint(certificate) if certificate else None,
        )
        verdict = self._peers.judge(caller)
        refusal = verdict.refusal
        broken: list[_Association] = []
        if refusal is None:
            with self._lock:
                # An association that broke in pynetdicom's reactor ends without an event.
                for gone in [known for known in self._associations if not known.is_alive()]:
                    broken.append(self._associations.pop(gone))
                if len(self._associations) >= self._settings.maximum_associations:
                    refusal = Refusal.LOCAL_LIMIT_EXCEEDED
                else:
                    address = f"{association.requestor.address}:{association.requestor.port}"
                    self._associations[association] = _Association(caller, verdict.peer, address)
        for ended in broken:
            self._ended(ended, is_aborted=not ended.is_released)
        if refusal is None:
            self._observer.association_opened(caller, verdict.peer)
        else:
            self._observer.association_rejected(caller, refusal.words)
        return refusal

    def _on_request(self, event: Any) -> None:
        # Before the answer: the peer may close the connection at once, and that event may come before that of the
        # release, from another thread.
        known = self._associations.get(event.assoc)
        if known is not None and isinstance(event.primitive, A_RELEASE):
            known.is_released = True

    def _on_end(self, event: Any) -> None:
        association = event.assoc
        self._waiting.leave(association.dul.socket.socket if association.dul.socket else None)
        with self._lock:
            known = self._associations.pop(association, None)
        if known is not None:
            # A peer that asks for the release and closes without waiting for the answer has sent all it had.
            asked = isinstance(association.dul.peek_next_pdu(), A_RELEASE)
            self._ended(known, is_aborted=not (known.is_released or asked))

    def _ended(self, known: _Association, is_aborted: bool) -> None:
        if known.origin is None:
            return
        self._intake.tell_resent(known.origin)
        self._intake.index.release_association(known.origin.association, is_aborted)
        if is_aborted:
            self._say_aborted(known.origin)
        self._observer.instances_transferred(known.origin.association)
        self._on_change()

    def _say_aborted(self, origin: Origin) -> None:
        index = self._intake.index
        try:
            for study_uid, count in index.transferred(origin.association).get("studies", {}).items():
                line = f"{origin.calling_ae} aborted its association after {count} instances; more may be missing"
                index.add_line(line, level="warning", study_uid=study_uid)
        except DBAPIError as error:
            _LOG.warning("an aborted association of %s can't be told of: %s", origin.calling_ae, error.orig)

    def _on_shut(self, reason: str) -> None:
        self._observer.connection_refused("", reason)

    # instances

    def _on_store(self, event: Any) -> Dataset:
        """A request that pynetdicom took, because it looked odd."""
        request, context = event.request, event.context
        fragments = [] if request.DataSet is None else [request.DataSet.getbuffer()]
        taken = StoreRequest(
            context.context_id,
            request.MessageID,
            str(request.AffectedSOPClassUID),
            str(request.AffectedSOPInstanceUID),
            str(context.transfer_syntax),
            fragments,
            sum(len(fragment) for fragment in fragments),
        )
        outcome = self._store(event.assoc, taken)
        answer = Dataset()
        answer.Status = outcome.status
        if outcome.comment:
            answer.ErrorComment = outcome.comment
        return answer

    def _store(self, association: Any, request: StoreRequest) -> StoreAnswer:
        known = self._associations.get(association)
        try:
            require_uid(request.sop_class_uid, "Affected SOP Class UID (0000,0002)")
            require_uid(request.instance_uid, "Affected SOP Instance UID (0000,1000)")
            if request.is_too_large:
                self._intake.require_size(self._intake.maximum_bytes + 1)
            if known is None or not request.size:
                raise RefusedInstanceError(CANNOT_UNDERSTAND, "no data set came with the request")
            arrived = self._intake.take(
                (request.file_start, *request.fragments),
                self._origin(known),
                expected_class=request.sop_class_uid,
                expected_uid=request.instance_uid,
                transfer_syntax=request.transfer_syntax_uid,
            )
        except RefusedInstanceError as error:
            return self._refusal(request, known, error.status, str(error))
        except UnsafeUidError as error:
            return self._refusal(request, known, CANNOT_UNDERSTAND, str(error))
        except DBAPIError as error:
            return self._refusal(request, known, OUT_OF_RESOURCES, f"can't be written: {error.orig}")
        self._observer.instance_taken("dimse", arrived.outcome, request.size)
        return StoreAnswer(SUCCESS)

    def _refusal(self, request: StoreRequest, known: _Association | None, status: int, text: str) -> StoreAnswer:
        calling = known.caller.calling_ae if known is not None else "unknown"
        line = f"instance {request.instance_uid} from {calling} refused with status 0x{status:04X}: {text}"
        try:
            self._intake.index.add_line(line)
        except DBAPIError:
            _LOG.error("%s (this line can't be kept in the index)", line)
        self._observer.instance_refused("dimse", request.instance_uid, calling, text)
        return StoreAnswer(status, text.encode("ascii", "replace").decode()[:64])

    def _origin(self, known: _Association) -> Origin:
        if known.origin is None:
            caller = known.caller
            identifier = self._intake.index.open_association(caller.calling_ae, caller.called_ae, known.address)
            known.origin = Origin(identifier, caller.calling_ae, caller.called_ae)
        return known.origin
