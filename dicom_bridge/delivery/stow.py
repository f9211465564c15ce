"""STOW-RS: results to a DICOMweb server, which is asked by QIDO-RS whether it has them (PS3.18 10.5 and 10.6)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pydicom
import requests
from dicomweb_client.api import DICOMwebClient
from pydicom.dataset import Dataset

from dicom_bridge.delivery.destination import DeliveryReceipt, DestinationUnavailableError, RefusedObject
from dicom_bridge.delivery.http import authorise, is_passing, open_session
from dicom_bridge.settings import StowDestination

# Failure Reasons of PS3.18 table 10.5.3-1 that tell of the server: processing failure, out of resources (A7xx).
_PROCESSING_FAILURE = 0x0110


class StowTarget:
    """A DICOMweb server that takes results."""

    takes = StowDestination.takes

    def __init__(self, settings: StowDestination, timeout_seconds: float) -> None:
        """Prepare; nothing is connected yet.

        Raises:
            ConfigurationError: a file of the settings can't be used.
        """
        self._url = settings.url.rstrip("/")
        session = open_session(settings.tls, "tls of a stow destination")
        authorise(session, settings, "{} of a stow destination".format)
        self._client = DICOMwebClient(self._url, session=session, timeout=timeout_seconds)
        # Waiting and trying again is the job engine's, which does it across restarts.
        self._client.set_http_retry_params(retry=False)

    def deliver(self, files: Sequence[Path]) -> DeliveryReceipt:
        """Store every object, and look each up.

        Raises:
            DestinationUnavailableError: the server is not reachable or sick, or does not find what it took.
        """
        refused: list[RefusedObject] = []
        delivered: list[str] = []
        for file in files:
            dataset = pydicom.dcmread(file)
            reason = self._store(dataset)
            if reason is None:
                self._require_found(dataset)
                delivered.append(str(dataset.SOPInstanceUID))
            else:
                refused.append(RefusedObject(str(dataset.SOPInstanceUID), reason))
        return DeliveryReceipt(tuple(delivered), tuple(refused), "QIDO-RS")

    def check(self) -> str:
        """Ask for one study.

        Raises:
            DestinationUnavailableError: it does not answer as a DICOMweb server.
        """
        try:
            self._client.search_for_studies(limit=1)
        except (requests.RequestException, ValueError) as error:
            raise DestinationUnavailableError(f"{self._url}: {_in_words(error)}") from None
        return f"{self._url} answers QIDO-RS"

    def _store(self, dataset: Dataset) -> str | None:
        """None: taken; else why it was refused."""
        uid = str(dataset.SOPInstanceUID)
        try:
            answer = self._client.store_instances([dataset])
        except requests.HTTPError as error:
            status = error.response.status_code if error.response is not None else 500
            if is_passing(status):
                raise DestinationUnavailableError(f"{self._url}: {_in_words(error)}") from None
            return f"HTTP status {status}"
        except (requests.RequestException, ValueError) as error:
            raise DestinationUnavailableError(f"{self._url}: {_in_words(error)}") from None
        for item in answer.get("FailedSOPSequence", []):
            if str(item.get("ReferencedSOPInstanceUID", "")) == uid:
                reason = int(item.get("FailureReason", 0))
                text = f"failure reason 0x{reason:04X}"
                if reason == _PROCESSING_FAILURE or 0xA700 <= reason <= 0xA7FF:
                    raise DestinationUnavailableError(f"{self._url}: {uid}: {text}")
                return text
        return None

    def _require_found(self, dataset: Dataset) -> None:
        uid = str(dataset.SOPInstanceUID)
        try:
            found = self._client.search_for_instances(
                study_instance_uid=str(dataset.StudyInstanceUID),
                series_instance_uid=str(dataset.SeriesInstanceUID),
                search_filters={"SOPInstanceUID": uid},
            )
        except (requests.RequestException, ValueError) as error:
            raise DestinationUnavailableError(f"{self._url}: {uid} can't be looked up: {_in_words(error)}") from None
        if not any(item.get("00080018", {}).get("Value") == [uid] for item in found):
            raise DestinationUnavailableError(f"{self._url}: {uid} was taken but can't be found there")


def _in_words(error: Exception) -> str:
    """Without addresses of memory and without the body of an answer."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"HTTP status {error.response.status_code}"
    if isinstance(error, requests.exceptions.SSLError):
        return "no TLS connection came about: look at certificate and tls.trusted"
    if isinstance(error, requests.ConnectionError):
        return "does not answer"
    if isinstance(error, requests.Timeout):
        return "does not answer in time"
    return f"answers with what is no DICOMweb ({type(error).__name__})"
