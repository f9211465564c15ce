"""An archive by DIMSE: C-FIND tells what it has, C-MOVE or C-GET brings it (PS3.4 C, study root)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import UID, AllTransferSyntaxes, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from pynetdicom.dsutils import encode_file_meta
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

from dicom_bridge.delivery.dimse.refusal import why_not_associated
from dicom_bridge.ingest.intake import CANNOT_UNDERSTAND, SUCCESS, RefusedInstanceError
from dicom_bridge.ingest.pull.source import ATTRIBUTES, RemoteSeries, SourceUnavailableError, Take
from dicom_bridge.security.tls import client_context
from dicom_bridge.settings import QueryRetrieveSource
from dicom_bridge.store.files.instance_files import require_uid

_MAXIMUM_CONTEXTS = 128
_SERIES_SECONDS = 600.0
_PENDING = (0xFF00, 0xFF01)
_COMPLETE, _SOME_FAILED = 0x0000, 0xB000


class QueryRetrieveArchive:
    """An application entity that studies are fetched from."""

    def __init__(self, name: str, settings: QueryRetrieveSource, timeout_seconds: float, our_ae: str) -> None:
        """Prepare; nothing is connected yet.

        Raises:
            ConfigurationError: a file of the TLS settings can't be used.
        """
        self.name = name
        self._settings = settings
        self._timeout = timeout_seconds
        self._our_ae = our_ae
        self._tls = None if settings.tls is None else client_context(settings.tls, f"sources.{name}.tls")
        self._peer = f"{settings.called_ae} at {settings.host}:{settings.port}"

    def studies(self, query: Mapping[str, str]) -> Iterator[str]:
        """Study Instance UIDs of what meets every condition.

        Raises:
            SourceUnavailableError: no answer.
        """
        asked = {"StudyInstanceUID": "", **{ATTRIBUTES[keyword]: value for keyword, value in query.items()}}
        wanted = asked.get("ModalitiesInStudy")
        for found in self._find("STUDY", asked):
            modalities = found.get("ModalitiesInStudy")
            held = [modalities] if isinstance(modalities, str) else list(modalities or [])
            # An optional key (PS3.4 C.6.2.1.2): who does not support it answers as if it had not been asked for.
            if wanted and "*" not in wanted and held and wanted not in held:
                continue
            yield _uid(found, "StudyInstanceUID")

    def series(self, study_uid: str) -> Iterable[RemoteSeries]:
        """The series of a study, with their instances.

        Raises:
            SourceUnavailableError: no answer.
        """
        found = []
        for one in self._find("SERIES", {"StudyInstanceUID": study_uid, "SeriesInstanceUID": "", "Modality": ""}):
            series_uid = _uid(one, "SeriesInstanceUID")
            asked = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": series_uid}
            images = self._find("IMAGE", {**asked, "SOPInstanceUID": "", "SOPClassUID": ""})
            instances = {_uid(image, "SOPInstanceUID"): str(image.get("SOPClassUID") or "") for image in images}
            found.append(RemoteSeries(series_uid, str(one.get("Modality") or ""), instances))
        return found

    def fetch(self, study_uid: str, series: RemoteSeries, missing: Sequence[str], take: Take) -> None:
        """Have a series sent, the whole of it: what is there already is known by its UID and not stored again.

        Raises:
            SourceUnavailableError: it broke off; what came is kept.
        """
        wanted = Dataset()
        wanted.QueryRetrieveLevel = "SERIES"
        wanted.StudyInstanceUID = study_uid
        wanted.SeriesInstanceUID = series.series_uid
        if self._settings.type == "c_move":
            association = self._associate([build_context(StudyRootQueryRetrieveInformationModelMove)])
            model = StudyRootQueryRetrieveInformationModelMove
            self._retrieve(association, lambda: association.send_c_move(wanted, self._our_ae, model))
            return
        refusals: list[RefusedInstanceError] = []
        classes = sorted({sop_class for sop_class in series.instances.values() if sop_class})
        if not classes:
            raise SourceUnavailableError(
                f"{self._peer} does not tell the SOP Class UID of instances, which C-GET needs: use c_move"
            )
        contexts = [build_context(StudyRootQueryRetrieveInformationModelGet), *_storage_contexts(classes)]
        roles = [build_role(sop_class, scp_role=True) for sop_class in classes]
        association = self._associate(contexts, roles, lambda event: _take(event, take, refusals))
        model = StudyRootQueryRetrieveInformationModelGet
        try:
            self._retrieve(association, lambda: association.send_c_get(wanted, model))
        finally:
            if refusals:
                raise refusals[0]

    def check(self) -> str:
        """Ask by C-ECHO.

        Raises:
            SourceUnavailableError: no answer, or the association is rejected.
        """
        association = self._associate([build_context(Verification)])
        try:
            status = association.send_c_echo().get("Status")
        except RuntimeError:
            status = None
        finally:
            _release(association)
        if status != SUCCESS:
            raise SourceUnavailableError(f"{self._peer} does not answer a C-ECHO with success")
        return f"{self._peer} answers a C-ECHO{' over TLS' if self._tls else ''}"

    def _associate(
        self, contexts: list[PresentationContext], roles: Sequence[Any] = (), on_store: Any = None
    ) -> Association:
        settings = self._settings
        ae = AE(settings.calling_ae)
        ae.requested_contexts = contexts
        ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = self._timeout
        association = ae.associate(
            settings.host,
            settings.port,
            ae_title=settings.called_ae,
            ext_neg=list(roles),
            tls_args=None if self._tls is None else (self._tls, settings.host),
            evt_handlers=[] if on_store is None else [(evt.EVT_C_STORE, on_store)],
        )
        if not association.is_established:
            raise SourceUnavailableError(f"{self._peer} {why_not_associated(association)}")
        return association

    def _find(self, level: str, keys: Mapping[str, str]) -> list[Dataset]:
        wanted = Dataset()
        wanted.QueryRetrieveLevel = level
        for keyword, value in keys.items():
            setattr(wanted, keyword, value)
        association = self._associate([build_context(StudyRootQueryRetrieveInformationModelFind)])
        found: list[Dataset] = []
        try:
            for answer, identifier in association.send_c_find(wanted, StudyRootQueryRetrieveInformationModelFind):
                status = answer.get("Status")
                if status in _PENDING and identifier is not None:
                    found.append(identifier)
                elif status != SUCCESS:
                    raise SourceUnavailableError(f"{self._peer} does not answer a C-FIND: {_reason(answer)}")
        except (RuntimeError, ValueError) as error:
            raise SourceUnavailableError(f"{self._peer}: no C-FIND came about: {error}") from None
        finally:
            _release(association)
        return found

    def _retrieve(self, association: Association, send: Any) -> None:
        # While a series is sent not every archive tells that it goes on.
        association.dimse_timeout = association.network_timeout = max(self._timeout, _SERIES_SECONDS)
        answer = Dataset()
        try:
            for answer, _ in send():
                if "Status" not in answer:
                    break
        except (RuntimeError, ValueError) as error:
            raise SourceUnavailableError(f"{self._peer}: nothing is sent: {error}") from None
        finally:
            _release(association)
        # Whether all came is for the caller to see; a warning tells that some did not.
        if answer.get("Status") not in (_COMPLETE, _SOME_FAILED):
            raise SourceUnavailableError(f"{self._peer} does not send the series: {_reason(answer)}")


def _take(event: Any, take: Take, refusals: list[RefusedInstanceError]) -> int:
    data = event.request.DataSet
    try:
        if data is None:
            raise RefusedInstanceError(CANNOT_UNDERSTAND, "no data set came with the request")
        take((b"\0" * 128 + b"DICM" + encode_file_meta(event.file_meta), data.getbuffer()))
    except RefusedInstanceError as error:
        refusals.append(error)
        return error.status
    return SUCCESS


def _storage_contexts(classes: Sequence[str]) -> Iterator[PresentationContext]:
    """For each class the uncompressed transfer syntaxes, then each other one by itself: the peer picks one of each."""
    plain: list[str | UID] = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
    others = [syntax for syntax in AllTransferSyntaxes if syntax not in plain]
    contexts = [build_context(sop_class, plain) for sop_class in classes]
    contexts += [build_context(sop_class, [syntax]) for syntax in others for sop_class in classes]
    return iter(contexts[: _MAXIMUM_CONTEXTS - 1])


def _uid(found: Dataset, keyword: str) -> str:
    return require_uid(str(found.get(keyword) or ""), keyword)


def _reason(answer: Dataset) -> str:
    if "Status" not in answer:
        return "the association was lost or timed out"
    comment = str(answer.get("ErrorComment", "")).strip()
    return f"status 0x{int(answer.Status):04X}" + (f": {comment}" if comment else "")


def _release(association: Association) -> None:
    if association.is_established:
        association.release()
