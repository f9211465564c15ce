"""Orthanc's REST API: results go to `/instances` and are looked up by `/tools/lookup`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from orthanc_api_client import OrthancApiClient
from orthanc_api_client import exceptions as orthanc_errors

from dicom_bridge.delivery.destination import DeliveryReceipt, DestinationUnavailableError, RefusedObject
from dicom_bridge.delivery.dimse.outgoing import read_outgoing
from dicom_bridge.delivery.http import open_session
from dicom_bridge.security.secret_file import read_secret
from dicom_bridge.settings import ClientTlsSettings, OrthancDestination


class OrthancServer:
    """An Orthanc that is asked by its REST API; each request has a time and the configured trust."""

    def __init__(
        self,
        url: str,
        user: str | None,
        password_file: Path | None,
        tls: ClientTlsSettings | None,
        timeout_seconds: float,
        section: str,
    ) -> None:
        """Prepare; nothing is connected yet.

        Raises:
            ConfigurationError: a file of the settings can't be used.
        """
        self.url = url.rstrip("/")
        password = None if password_file is None else read_secret(password_file, f"password_file of {section}")
        session = open_session(tls, f"tls of {section}")
        self._client = OrthancApiClient(f"{self.url}/", user=user, pwd=password)
        self._how: dict[str, Any] = {"timeout": timeout_seconds, "verify": session.verify, "cert": session.cert}

    def get(self, path: str, **parameters: Any) -> Any:
        """The JSON of an answer.

        Raises:
            MissingResourceError: there is no such thing.
            DestinationUnavailableError: no answer, or none that is a success.
        """
        return self._ask(lambda: self._client.get(path, params=parameters, **self._how).json())

    def download(self, path: str) -> bytes:
        """The content of an answer.

        Raises:
            MissingResourceError: there is no such thing.
            DestinationUnavailableError: no answer, or none that is a success.
        """
        return bytes(self._ask(lambda: self._client.get(path, **self._how).content))

    def post(self, path: str, content: bytes | str) -> Any:
        """The JSON of an answer.

        Raises:
            DestinationUnavailableError: no answer, or the server is sick.
            RefusedContentError: it looked at the content and did not take it.
        """
        return self._ask(lambda: self._client.post(path, data=content, **self._how).json())

    def _ask(self, request: Callable[[], Any]) -> Any:
        try:
            return request()
        except orthanc_errors.HttpError as error:
            status = int(error.http_status_code or 500)
            if status == 404:
                raise MissingResourceError(f"{self.url}: HTTP status {status}") from None
            if status == 400:
                raise RefusedContentError(f"HTTP status {status}") from None
            raise DestinationUnavailableError(f"{self.url}: HTTP status {status}") from None
        except (orthanc_errors.OrthancApiException, OSError) as error:
            reason = "does not answer in time" if isinstance(error, orthanc_errors.TimeoutError) else "does not answer"
            raise DestinationUnavailableError(f"{self.url} {reason}") from None
        except (ValueError, AttributeError):
            # No JSON; or no answer at all: the client swallows what `requests` raises after its last retry.
            raise DestinationUnavailableError(f"{self.url} does not answer as an Orthanc") from None


class MissingResourceError(DestinationUnavailableError):
    """Orthanc answers, and does not have what it was asked for (any more)."""


class RefusedContentError(Exception):
    """Orthanc looked at what was sent and did not take it."""


class OrthancTarget:
    """An Orthanc that takes results."""

    takes = OrthancDestination.takes

    def __init__(self, settings: OrthancDestination, timeout_seconds: float) -> None:
        """Prepare; nothing is connected yet.

        Raises:
            ConfigurationError: a file of the settings can't be used.
        """
        self._server = OrthancServer(
            settings.url,
            settings.user,
            settings.password_file,
            settings.tls,
            timeout_seconds,
            "an orthanc destination",
        )

    def deliver(self, files: Sequence[Path]) -> DeliveryReceipt:
        """Store every object, and look each up.

        Raises:
            DestinationUnavailableError: Orthanc is not reachable or sick, or does not find what it took.
        """
        delivered: list[str] = []
        refused: list[RefusedObject] = []
        for file in files:
            uid = str(read_outgoing(file).instance_uid)
            try:
                self._server.post("/instances", file.read_bytes())
            except RefusedContentError as error:
                refused.append(RefusedObject(uid, str(error)))
                continue
            if not any(item.get("Type") == "Instance" for item in self._server.post("/tools/lookup", uid)):
                raise DestinationUnavailableError(f"{self._server.url}: {uid} was taken but can't be found there")
            delivered.append(uid)
        return DeliveryReceipt(tuple(delivered), tuple(refused), "Orthanc look-up")

    def check(self) -> str:
        """Ask who it is.

        Raises:
            DestinationUnavailableError: it does not answer as an Orthanc.
        """
        system = self._server.get("/system")
        return f"{self._server.url} is Orthanc {system.get('Version', 'of unknown version')}"
