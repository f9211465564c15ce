"""C-STORE as a service class user: results to a PACS, and any DICOM file to any application entity."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, _config
from pynetdicom.presentation import PresentationContext, build_context

from dicom_bridge.delivery.destination import DeliveryReceipt, DestinationUnavailableError, RefusedObject
from dicom_bridge.delivery.dimse.commitment import CommitmentReports
from dicom_bridge.delivery.dimse.confirmation import CStoreConfirmation
from dicom_bridge.delivery.dimse.outgoing import Outgoing, read_outgoing
from dicom_bridge.delivery.dimse.refusal import why_not_associated
from dicom_bridge.security.tls import client_context
from dicom_bridge.settings import CStoreDestination

MAXIMUM_CONTEXTS = 128
"""Presentation contexts of one association (PS3.8 9.3.2.2: odd identifiers from 1 to 255)."""


@dataclass(frozen=True)
class StoreOutcome:
    """What became of one file: `status` as answered (PS3.7 C), None when it was not even sent; `reason` in words."""

    file: Outgoing
    status: int | None
    reason: str = ""

    @property
    def is_stored(self) -> bool:
        """Success, or a warning: the object is stored (PS3.4 B.2.3)."""
        return self.status is not None and (self.status == 0x0000 or 0xB000 <= self.status <= 0xBFFF)


def store_files(
    files: Sequence[Outgoing],
    *,
    host: str,
    port: int,
    called_ae: str,
    calling_ae: str,
    timeout_seconds: float,
    tls: ssl.SSLContext | None = None,
    on_outcome: Callable[[StoreOutcome], None] = lambda outcome: None,
) -> list[StoreOutcome]:
    """Send files, in as few associations as their presentation contexts allow.

    A file goes out as its bytes are; only where the peer does not take an uncompressed file's transfer syntax it is
    written anew in one that the peer took.

    Raises:
        DestinationUnavailableError: no connection, association rejected or lost, no answer, or out of resources.
    """
    outcomes: list[StoreOutcome] = []
    for group, contexts in _by_association(files):
        ae = AE(calling_ae)
        ae.requested_contexts = contexts
        ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = timeout_seconds
        association = ae.associate(host, port, ae_title=called_ae, tls_args=None if tls is None else (tls, host))
        if not association.is_established:
            raise DestinationUnavailableError(f"{called_ae} at {host}:{port} {why_not_associated(association)}")
        try:
            for file in group:
                outcome = _store(association, file)
                outcomes.append(outcome)
                on_outcome(outcome)
        finally:
            if association.is_established:
                association.release()
    return outcomes


class CStoreTarget:
    """An application entity that takes results."""

    takes = CStoreDestination.takes

    def __init__(
        self,
        settings: CStoreDestination,
        timeout_seconds: float,
        reports: CommitmentReports | None = None,
        commitment_seconds: float = 30.0,
    ) -> None:
        """Prepare.

        Args:
            settings: of the destination.
            timeout_seconds: for connecting and for each answer.
            reports: where reports of storage commitment arrive that the peer brings to our DICOM port.
            commitment_seconds: how long such a report may take.
        Raises:
            ConfigurationError: a file of the TLS settings can't be used.
        """
        self._settings = settings
        self._timeout = timeout_seconds
        self._tls = None if settings.tls is None else client_context(settings.tls, "tls of a c_store destination")
        self._confirmation = CStoreConfirmation(
            settings, reports or CommitmentReports(), timeout_seconds, commitment_seconds, self._tls
        )

    def deliver(self, files: Sequence[Path]) -> DeliveryReceipt:
        """Send every file, and have the peer confirm that it keeps them.

        Raises:
            DestinationUnavailableError: the peer is not reachable or out of resources, or does not confirm.
        """
        outcomes = store_files(
            [read_outgoing(path) for path in files],
            host=self._settings.host,
            port=self._settings.port,
            called_ae=self._settings.called_ae,
            calling_ae=self._settings.calling_ae,
            timeout_seconds=self._timeout,
            tls=self._tls,
        )
        refused = [RefusedObject(str(o.file.instance_uid), o.reason) for o in outcomes if not o.is_stored]
        stored = [outcome.file for outcome in outcomes if outcome.is_stored]
        confirmation = self._confirmation.confirm(stored)
        refused += confirmation.refused
        not_kept = {one.instance_uid for one in refused}
        return DeliveryReceipt(
            delivered=tuple(str(file.instance_uid) for file in stored if str(file.instance_uid) not in not_kept),
            refused=tuple(refused),
            confirmed_by=confirmation.confirmed_by,
        )

    def check(self) -> str:
        """Ask the peer by C-ECHO.

        Raises:
            DestinationUnavailableError: it does not answer.
        """
        return self._confirmation.echo()


def _store(association: Any, file: Outgoing) -> StoreOutcome:
    accepted = {(c.abstract_syntax, c.transfer_syntax[0]) for c in association.accepted_contexts}
    exact = (file.sop_class_uid, file.transfer_syntax_uid) in accepted
    same_class = any(abstract_syntax == file.sop_class_uid for abstract_syntax, _ in accepted)
    if not exact and not (same_class and file.is_convertible):
        what = f"transfer syntax {file.transfer_syntax_uid.name}" if same_class else "storage class"
        return StoreOutcome(file, None, f"the peer does not accept the {what} of {file.sop_class_uid.name}")
    _config.STORE_SEND_CHUNKED_DATASET = True  # a path is sent as its bytes are, never decoded
    try:
        answer = association.send_c_store(file.path if exact else pydicom.dcmread(file.path))
    except (ValueError, AttributeError, NotImplementedError) as error:
        return StoreOutcome(file, None, f"can't be sent: {' '.join(str(error).split())}")
    except RuntimeError as error:
        raise DestinationUnavailableError(f"the association was lost: {error}") from None
    if "Status" not in answer:
        raise DestinationUnavailableError("the association was lost or timed out before an answer came")
    status = int(answer.Status)
    comment = str(answer.get("ErrorComment", "")).strip()
    reason = f"status 0x{status:04X}" + (f": {comment}" if comment else "")
    if 0xA700 <= status <= 0xA7FF:
        raise DestinationUnavailableError(f"the peer is out of resources ({reason})")
    return StoreOutcome(file, status, "" if status == 0 else reason)


def _by_association(files: Sequence[Outgoing]) -> Iterator[tuple[list[Outgoing], list[PresentationContext]]]:
    group: list[Outgoing] = []
    wanted: dict[tuple[UID, tuple[UID, ...]], PresentationContext] = {}
    for file in files:
        needed = {
            (file.sop_class_uid, syntaxes): build_context(file.sop_class_uid, list(syntaxes))
            for syntaxes in _offers(file)
        }
        if group and len(wanted | needed) > MAXIMUM_CONTEXTS:
            yield group, list(wanted.values())
            group, wanted = [], {}
        group.append(file)
        wanted |= needed
    if group:
        yield group, list(wanted.values())


def _offers(file: Outgoing) -> list[tuple[UID, ...]]:
    """One context for the file as it is, and for uncompressed files the default transfer syntax (PS3.5 10.1)."""
    offers: list[tuple[UID, ...]] = [(file.transfer_syntax_uid,)]
    if file.is_convertible:
        offers += [(syntax,) for syntax in (ImplicitVRLittleEndian, ExplicitVRLittleEndian) if (syntax,) not in offers]
    return offers
