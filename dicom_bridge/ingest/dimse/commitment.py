"""Storage commitment as a service class provider (PS3.4 J): we say which instances we keep.

A request is written down before it is answered, and reported until the peer took the report: on the association that
asked, when it is still there, else on one that we open to the peer's own port. Reports that peers bring to us, because
we asked them, arrive on the same port and go to those who wait for them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, build_role
from pynetdicom.sop_class import StorageCommitmentPushModel  # type: ignore[attr-defined]
from sqlalchemy.exc import DBAPIError

from dicom_bridge.delivery.dimse.commitment import REQUEST, WELL_KNOWN_INSTANCE, CommitmentReports, reference
from dicom_bridge.security.tls import client_context
from dicom_bridge.settings import PeerSettings, ReceiveSettings
from dicom_bridge.store.commitments import CommitmentRequest, CommitmentRequests
from dicom_bridge.store.files.instance_files import InstanceFiles

_LOG = logging.getLogger(__name__)
_SUCCESS, _PROCESSING_FAILURE, _INVALID_ARGUMENT = 0x0000, 0x0110, 0x0115
_NO_SUCH_INSTANCE = 0x0112  # Failure Reasons of PS3.3 C.14.1.1
_CLASS_CONFLICT = 0x0119
_ALL_KEPT, _SOME_FAILED = 1, 2  # Event Type IDs of PS3.4 J.3.3
_LONGEST_WAIT_SECONDS = 300.0
_ATTEMPTS = 100


class CommitmentScp:
    """Answers N-ACTION, sends N-EVENT-REPORT, takes N-EVENT-REPORT. Reporting has a thread of its own."""

    def __init__(
        self,
        settings: ReceiveSettings,
        files: InstanceFiles,
        requests: CommitmentRequests,
        reports: CommitmentReports,
        on_line: Callable[[str, str], None] = lambda text, level: None,
    ) -> None:
        """Prepare.

        Args:
            settings: our AE title, and the peers with the ports on which they take reports.
            files: an instance is kept when its file is there.
            requests: written down here.
            reports: those that peers bring to us.
            on_line: takes a line for the status page and its level.
        """
        self._settings = settings
        self._files = files
        self._requests = requests
        self._reports = reports
        self._on_line = on_line
        self._open: dict[str, Any] = {}
        self._look = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="commitment", daemon=True)

    def start(self) -> None:
        """Start reporting; what an earlier run left unreported goes on."""
        self._thread.start()

    def stop(self) -> None:
        """Stop; what was not reported is at the next start."""
        self._stopping.set()
        self._look.set()
        if self._thread.is_alive():
            self._thread.join(timeout=30)

    # handlers of the DICOM port

    def on_action(self, event: Any) -> tuple[int, Dataset | None]:
        """N-ACTION: a peer asks whether we keep instances."""
        try:
            information = event.action_information
            transaction = str(information.TransactionUID)
            objects = [
                (str(item.ReferencedSOPClassUID), str(item.ReferencedSOPInstanceUID))
                for item in information.ReferencedSOPSequence
            ]
        except Exception:  # whatever the parser met in what the peer sent
            return _INVALID_ARGUMENT, None
        if event.action_type != REQUEST or not objects:
            return _INVALID_ARGUMENT, None
        requestor = event.assoc.requestor
        request = CommitmentRequest(transaction, str(requestor.ae_title).strip(), str(requestor.address), objects)
        try:
            self._requests.add(request)
        except DBAPIError:
            _LOG.exception("a request of storage commitment can't be written down")
            return _PROCESSING_FAILURE, None
        self._open[transaction] = event.assoc
        self._look.set()
        return _SUCCESS, None

    def on_report(self, event: Any) -> tuple[int, Dataset | None]:
        """N-EVENT-REPORT: a peer reports on what we sent it."""
        try:
            return (_SUCCESS if self._reports.arrived(event.event_information) else _PROCESSING_FAILURE), None
        except Exception:  # whatever the parser met in what the peer sent
            return _INVALID_ARGUMENT, None

    # reporting

    def _run(self) -> None:
        wait = 0.0
        while True:
            self._look.wait(wait)
            self._look.clear()
            if self._stopping.is_set():
                return
            try:
                wait = self._report_due()
            except DBAPIError as error:
                _LOG.error("requests of storage commitment can't be read, looking again soon: %s", error.orig)
                wait = 5.0

    def _report_due(self) -> float:
        wait = _LONGEST_WAIT_SECONDS
        for request in self._requests.unreported():
            if self._stopping.is_set():
                return 0.0
            held = request.transaction_uid in self._open
            due = self._requests.due_at(request.transaction_uid) - time.time()
            if due > 0 and not held:
                wait = min(wait, due)
            elif self._requests.claim(request.transaction_uid, held):
                wait = min(wait, self._report(request))
        return wait

    def _report(self, request: CommitmentRequest) -> float:
        """Try once; returns the seconds until the next attempt."""
        information = self._judge(request)
        trouble = self._send(request, information)
        name = f"storage commitment {request.transaction_uid} of {request.calling_ae}"
        if trouble is None:
            self._requests.reported(request.transaction_uid)
            failed = len(information.get("FailedSOPSequence", []))
            _LOG.info("%s reported: %d instances kept, %d not", name, len(request.objects) - failed, failed)
            return _LONGEST_WAIT_SECONDS
        attempts = self._requests.attempts(request.transaction_uid) + 1
        if attempts >= _ATTEMPTS:
            self._requests.reported(request.transaction_uid)
            self._on_line(f"{name} can't be reported, given up: {trouble}", "error")
            return _LONGEST_WAIT_SECONDS
        pause = min(2.0 ** min(attempts, 20), _LONGEST_WAIT_SECONDS)
        self._requests.put_off(request.transaction_uid, time.time() + pause)
        if attempts == 1:
            self._on_line(f"{name} can't be reported, will be tried again: {trouble}", "warning")
        return pause

    def _judge(self, request: CommitmentRequest) -> Dataset:
        known = self._requests.known_instances([uid for _, uid in request.objects])
        kept, failed = [], []
        for sop_class, uid in request.objects:
            item = reference(sop_class, uid)
            stored = known.get(uid)
            if stored is None or not (self._files.root / stored.path).is_file():
                item.FailureReason = _NO_SUCH_INSTANCE
            elif stored.sop_class_uid != sop_class:
                item.FailureReason = _CLASS_CONFLICT
            else:
                kept.append(item)
                continue
            failed.append(item)
        information = Dataset()
        information.TransactionUID = request.transaction_uid
        if kept:
            information.ReferencedSOPSequence = kept
        if failed:
            information.FailedSOPSequence = failed
        return information

    def _send(self, request: CommitmentRequest, information: Dataset) -> str | None:
        """None: the peer took the report; else what hindered it."""
        event_type = _SOME_FAILED if "FailedSOPSequence" in information else _ALL_KEPT
        report = (information, event_type, StorageCommitmentPushModel, WELL_KNOWN_INSTANCE)
        asking = self._open.pop(request.transaction_uid, None)
        peer = _peer_with_port(self._settings.peers, request)
        if peer is None:
            if asking is None or not asking.is_established:
                return "its association is gone, and no peer of receive.peers with this AE title has a report_to"
            return _sent(asking, report)
        assert peer.report_to is not None
        entity = AE(self._settings.ae_title)
        entity.add_requested_context(StorageCommitmentPushModel)
        entity.connection_timeout = entity.acse_timeout = entity.dimse_timeout = 30
        tls = peer.report_to.tls
        association = entity.associate(
            peer.report_to.host,
            peer.report_to.port,
            ae_title=request.calling_ae,
            ext_neg=[build_role(StorageCommitmentPushModel, scp_role=True)],
            tls_args=None if tls is None else (client_context(tls, "report_to.tls"), peer.report_to.host),
        )
        if not association.is_established:
            return f"{request.calling_ae} at {peer.report_to.host}:{peer.report_to.port} does not associate"
        try:
            return _sent(association, report)
        finally:
            if association.is_established:
                association.release()


def _sent(association: Any, report: Sequence[Any]) -> str | None:
    try:
        answer, _ = association.send_n_event_report(*report)
    except (RuntimeError, ValueError) as error:
        return str(error)
    status = answer.get("Status")
    return None if status == _SUCCESS else "no answer" if status is None else f"status 0x{status:04X}"


def _peer_with_port(peers: Sequence[PeerSettings], request: CommitmentRequest) -> PeerSettings | None:
    for peer in peers:
        if peer.report_to is not None and request.calling_ae in peer.calling_ae:
            return peer
    return None
