"""How a C-STORE is confirmed: by storage commitment, else by finding the objects, as far as the peer offers either."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)

from dicom_bridge.delivery.destination import DestinationUnavailableError, RefusedObject
from dicom_bridge.delivery.dimse.commitment import (
    PASSING_REASONS,
    CommitmentRefusedError,
    CommitmentReport,
    CommitmentReports,
    request_commitment,
)
from dicom_bridge.delivery.dimse.outgoing import Outgoing
from dicom_bridge.settings import CStoreDestination

BY_COMMITMENT = "storage commitment"
BY_FIND = "C-FIND"
BY_STATUS = "C-STORE status"


@dataclass(frozen=True)
class Confirmation:
    """Objects that the peer does not keep after all, and how it is known of the others that it does."""

    refused: tuple[RefusedObject, ...]
    confirmed_by: str


class CStoreConfirmation:
    """Asks one application entity what became of what it was sent."""

    def __init__(
        self,
        settings: CStoreDestination,
        reports: CommitmentReports,
        timeout_seconds: float,
        commitment_seconds: float,
        tls: ssl.SSLContext | None,
    ) -> None:
        self._settings = settings
        self._reports = reports
        self._timeout = timeout_seconds
        self._commitment_seconds = commitment_seconds
        self._tls = tls

    def confirm(self, files: Sequence[Outgoing]) -> Confirmation:
        """Confirm what the peer answered with success.

        Raises:
            DestinationUnavailableError: not confirmed now; deliver again later.
        """
        if self._settings.commitment == "off" or not files:
            return Confirmation((), BY_STATUS)
        association = self.associate(StorageCommitmentPushModel)
        if association is None:
            return self._without_commitment("offers no storage commitment", files)
        try:
            objects = [(str(file.sop_class_uid), str(file.instance_uid)) for file in files]
            report = request_commitment(association, objects, self._reports, self._commitment_seconds)
        except CommitmentRefusedError as error:
            return self._without_commitment(str(error), files)
        finally:
            if association.is_established:
                association.release()
        if report is None:
            why = f"sent no report of storage commitment within {self._commitment_seconds:g} s"
            return self._without_commitment(why, files)
        return self._judge(report, files)

    def associate(self, *abstract_syntaxes: str) -> Association | None:
        """An association with at least one of these presentation contexts; None when the peer takes none.

        Raises:
            DestinationUnavailableError: nobody answers.
        """
        settings = self._settings
        ae = AE(settings.calling_ae)
        for abstract_syntax in abstract_syntaxes:
            ae.add_requested_context(abstract_syntax)
        ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = self._timeout
        ae.network_timeout = self._timeout + self._commitment_seconds
        association = ae.associate(
            settings.host,
            settings.port,
            ae_title=settings.called_ae,
            tls_args=None if self._tls is None else (self._tls, settings.host),
            evt_handlers=[(evt.EVT_N_EVENT_REPORT, self._on_report)],
        )
        if association.is_established:
            return association
        if association.is_rejected:
            return None
        # A peer that takes none of the contexts aborts, or the association can't be told from no answer.
        if association.is_aborted and association.acceptor.primitive is not None:
            return None
        raise DestinationUnavailableError(f"{settings.called_ae} at {settings.host}:{settings.port} does not answer")

    def echo(self) -> str:
        """Ask by C-ECHO.

        Raises:
            DestinationUnavailableError: no answer, or the association is rejected.
        """
        settings = self._settings
        name = f"{settings.called_ae} at {settings.host}:{settings.port}"
        association = self.associate(Verification)
        if association is None:
            raise DestinationUnavailableError(f"{name} rejects us ({settings.calling_ae})")
        try:
            status = association.send_c_echo().get("Status")
        except RuntimeError as error:
            raise DestinationUnavailableError(f"{name}: the association was lost: {error}") from None
        finally:
            if association.is_established:
                association.release()
        if status != 0x0000:
            raise DestinationUnavailableError(f"{name} does not answer a C-ECHO with success")
        return f"{name} answers a C-ECHO{' over TLS' if self._tls else ''}"

    def _on_report(self, event: Any) -> tuple[int, Dataset | None]:
        return (0x0000 if self._reports.arrived(event.event_information) else 0x0110), None

    def _without_commitment(self, why: str, files: Sequence[Outgoing]) -> Confirmation:
        if self._settings.commitment == "required":
            raise DestinationUnavailableError(f"{self._settings.called_ae} {why}, and commitment is required")
        association = self.associate(StudyRootQueryRetrieveInformationModelFind)
        if association is None:
            return Confirmation((), BY_STATUS)
        try:
            for file in files:
                if not self._find(association, file):
                    return Confirmation((), BY_STATUS)
        finally:
            if association.is_established:
                association.release()
        return Confirmation((), BY_FIND)

    def _find(self, association: Association, file: Outgoing) -> bool:
        """Look an object up; False when the peer does not answer such questions of ours.

        Raises:
            DestinationUnavailableError: it answers, and does not have the object.
        """
        header = pydicom.dcmread(file.path, stop_before_pixels=True)
        query = Dataset()
        query.QueryRetrieveLevel = "IMAGE"
        query.StudyInstanceUID = header.StudyInstanceUID
        query.SeriesInstanceUID = header.SeriesInstanceUID
        query.SOPInstanceUID = file.instance_uid
        found = False
        try:
            for answer, identifier in association.send_c_find(query, StudyRootQueryRetrieveInformationModelFind):
                status = answer.get("Status")
                if status in (0xFF00, 0xFF01) and identifier is not None:
                    found = found or str(identifier.get("SOPInstanceUID", "")) == str(file.instance_uid)
                elif status != 0x0000:
                    return False
        except (RuntimeError, ValueError) as error:
            raise DestinationUnavailableError(f"C-FIND of {file.instance_uid} failed: {error}") from None
        if not found:
            raise DestinationUnavailableError(f"{file.instance_uid} was answered with success but can't be found there")
        return True

    @staticmethod
    def _judge(report: CommitmentReport, files: Sequence[Outgoing]) -> Confirmation:
        refused = []
        for uid, reason in report.failed:
            text = f"storage commitment failed with reason 0x{reason:04X}"
            if reason in PASSING_REASONS:
                raise DestinationUnavailableError(f"{uid}: {text}")
            refused.append(RefusedObject(uid, text))
        reported = report.kept | {uid for uid, _ in report.failed}
        missing = [str(file.instance_uid) for file in files if str(file.instance_uid) not in reported]
        if missing:
            raise DestinationUnavailableError(f"the report of storage commitment does not name {missing[0]}")
        return Confirmation(tuple(refused), BY_COMMITMENT)
