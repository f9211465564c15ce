"""An archive by DICOMweb: QIDO-RS tells what it has, WADO-RS brings it as it is encoded there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import requests
from dicomweb_client.api import DICOMwebClient
from requests_toolbelt.multipart.decoder import ImproperBodyPartContentException, MultipartDecoder

from dicom_bridge.delivery.http import authorise, open_session
from dicom_bridge.ingest.pull.source import ATTRIBUTES, RemoteSeries, SourceUnavailableError, Take
from dicom_bridge.settings import DicomWebSource
from dicom_bridge.store.files.instance_files import require_uid

_PAGE = 500
_AS_STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'


class DicomWebArchive:
    """A DICOMweb server that studies are fetched from."""

    def __init__(self, name: str, settings: DicomWebSource, timeout_seconds: float) -> None:
        """Prepare; nothing is connected yet.

        Raises:
            ConfigurationError: a file of the settings can't be used.
        """
        self.name = name
        self._url = settings.url.rstrip("/")
        self._timeout = timeout_seconds
        self._session = open_session(settings.tls, f"sources.{name}.tls")
        authorise(self._session, settings, lambda setting: f"sources.{name}.{setting}")
        self._client = DICOMwebClient(self._url, session=self._session, timeout=timeout_seconds)
        self._client.set_http_retry_params(retry=False)

    def studies(self, query: Mapping[str, str]) -> Iterator[str]:
        """Study Instance UIDs of what meets every condition.

        Raises:
            SourceUnavailableError: no answer.
        """
        filters = {ATTRIBUTES[keyword]: value for keyword, value in query.items()}
        for item in self._pages(self._client.search_for_studies, search_filters=filters):
            yield require_uid(_value(item, "0020000D"), "Study Instance UID (0020,000D)")

    def series(self, study_uid: str) -> Iterable[RemoteSeries]:
        """The series of a study, with their instances.

        Raises:
            SourceUnavailableError: no answer.
        """
        found = []
        for item in self._pages(self._client.search_for_series, study_instance_uid=study_uid):
            series_uid = require_uid(_value(item, "0020000E"), "Series Instance UID (0020,000E)")
            pages = self._pages(
                self._client.search_for_instances, study_instance_uid=study_uid, series_instance_uid=series_uid
            )
            instances = {
                require_uid(_value(one, "00080018"), "SOP Instance UID (0008,0018)"): _value(one, "00080016")
                for one in pages
            }
            found.append(RemoteSeries(series_uid, _value(item, "00080060"), instances))
        return found

    def fetch(self, study_uid: str, series: RemoteSeries, missing: Sequence[str], take: Take) -> None:
        """Bring the missing instances, one after another.

        Raises:
            SourceUnavailableError: it broke off; what came is kept.
        """
        for uid in missing:
            url = f"{self._url}/studies/{study_uid}/series/{series.series_uid}/instances/{uid}"
            try:
                answer = self._session.get(url, headers={"Accept": _AS_STORED}, timeout=self._timeout)
                answer.raise_for_status()
                parts = MultipartDecoder.from_response(answer).parts
            except (requests.RequestException, ImproperBodyPartContentException, ValueError) as error:
                raise SourceUnavailableError(f"{self._url}: {uid}: {_in_words(error)}") from None
            for part in parts:
                take((part.content,))

    def check(self) -> str:
        """Ask for one study.

        Raises:
            SourceUnavailableError: it does not answer as a DICOMweb server.
        """
        try:
            self._client.search_for_studies(limit=1)
        except (requests.RequestException, ValueError) as error:
            raise SourceUnavailableError(f"{self._url}: {_in_words(error)}") from None
        return f"{self._url} answers QIDO-RS"

    def _pages(self, search: Any, **filters: Any) -> Iterator[dict[str, Any]]:
        seen: set[str] = set()
        offset = 0
        while True:
            try:
                page = search(limit=_PAGE, offset=offset, **filters)
            except (requests.RequestException, ValueError) as error:
                raise SourceUnavailableError(f"{self._url}: {_in_words(error)}") from None
            # A server may give fewer than asked for, or all of them whatever the page.
            new = [item for item in page if str(item) not in seen]
            seen.update(str(item) for item in new)
            yield from new
            if not new:
                return
            offset += len(page)


def _value(item: Mapping[str, Any], tag: str) -> str:
    value = item.get(tag, {}).get("Value") or [""]
    return str(value[0])


def _in_words(error: Exception) -> str:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"HTTP status {error.response.status_code}"
    if isinstance(error, requests.exceptions.SSLError):
        return "no TLS connection came about: look at certificate and tls.trusted"
    if isinstance(error, requests.Timeout):
        return "does not answer in time"
    if isinstance(error, requests.ConnectionError):
        return "does not answer"
    return f"answers with what is no DICOMweb ({type(error).__name__})"
