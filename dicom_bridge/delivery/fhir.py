"""FHIR R4: reports go to a server as transactions, each resource created only where it is not there yet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import requests

from dicom_bridge.delivery.destination import DeliveryReceipt, DestinationUnavailableError, RefusedObject
from dicom_bridge.delivery.http import authorise, is_passing, open_session
from dicom_bridge.delivery.message import OutgoingMessage, read_message
from dicom_bridge.settings import FhirDestination

_TYPE = "application/fhir+json"


class FhirTarget:
    """A FHIR server that takes reports."""

    takes = FhirDestination.takes

    def __init__(self, settings: FhirDestination, timeout_seconds: float) -> None:
        """Prepare; nothing is connected yet.

        Raises:
            ConfigurationError: a file of the settings can't be used.
        """
        self._url = settings.url.rstrip("/")
        self._timeout = timeout_seconds
        self._session = open_session(settings.tls, "tls of a fhir destination")
        self._session.headers["Accept"] = _TYPE
        authorise(self._session, settings, "{} of a fhir destination".format)

    def deliver(self, files: Sequence[Path]) -> DeliveryReceipt:
        """Post each report; one that is there already stays as it is (conditional create).

        Raises:
            DestinationUnavailableError: the server is not reachable or sick.
        """
        delivered: list[str] = []
        refused: list[RefusedObject] = []
        for file in files:
            message = read_message(file)
            reason = self._post(message)
            if reason is None:
                delivered.append(message.identifier)
            else:
                refused.append(RefusedObject(message.identifier, reason))
        return DeliveryReceipt(tuple(delivered), tuple(refused), "FHIR transaction")

    def check(self) -> str:
        """Ask what it can do.

        Raises:
            DestinationUnavailableError: it does not answer as a FHIR server.
        """
        answer = self._ask("GET", f"{self._url}/metadata")
        statement = _json(answer)
        if answer.status_code != 200 or statement.get("resourceType") != "CapabilityStatement":
            raise DestinationUnavailableError(f"{self._url} does not answer as a FHIR server")
        return f"{self._url} answers as FHIR {statement.get('fhirVersion', 'of unknown version')}"

    def _post(self, message: OutgoingMessage) -> str | None:
        """None: taken; else why it was refused."""
        answer = self._ask("POST", self._url, message.content)
        status = answer.status_code
        if is_passing(status):
            raise DestinationUnavailableError(f"{self._url}: HTTP status {status}")
        if status not in (200, 201):
            return f"HTTP status {status}{_issues(answer)}"
        response = _json(answer)
        entries = response.get("entry")
        if response.get("type") != "transaction-response" or not isinstance(entries, list):
            raise DestinationUnavailableError(f"{self._url} does not answer as a FHIR server")
        statuses = [str(entry.get("response", {}).get("status", "")) for entry in entries if isinstance(entry, dict)]
        failed = sorted({one[:3] for one in statuses if not one.startswith("2")})
        if not statuses:
            return "no entry was answered"
        return f"status {', '.join(failed)} of an entry" if failed else None

    def _ask(self, method: str, url: str, content: bytes | None = None) -> requests.Response:
        headers = {} if content is None else {"Content-Type": f"{_TYPE}; charset=utf-8"}
        try:
            return self._session.request(
                method, url, data=content, headers=headers, timeout=self._timeout, allow_redirects=False
            )
        except requests.exceptions.SSLError:
            reason = "no TLS connection came about: look at certificate and tls.trusted"
        except requests.Timeout:
            reason = "does not answer in time"
        except requests.RequestException:
            reason = "does not answer"
        raise DestinationUnavailableError(f"{self._url}: {reason}")


def _json(answer: requests.Response) -> dict[str, Any]:
    try:
        content = answer.json()
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _issues(answer: requests.Response) -> str:
    """Codes of an OperationOutcome; its words are left out, they may name the patient."""
    issues = _json(answer).get("issue")
    codes = [str(issue.get("code")) for issue in issues if isinstance(issue, dict)] if isinstance(issues, list) else []
    return f" ({', '.join(code for code in codes if code.isidentifier() or '-' in code)[:100]})" if codes else ""
