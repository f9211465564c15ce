"""How a DICOMweb peer is addressed: its URL, who we are, and how much we take."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase, HTTPBasicAuth

from rcmed.errors import ConfigurationError, RCMedError

logger = logging.getLogger(__name__)

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_CHUNK_BYTES = 2**20


class PeerError(RCMedError):
    """The DICOMweb peer does not answer, refuses us, or answers nonsense; what was asked can be asked again."""


@dataclass(frozen=True)
class PeerAccess:
    """Credentials and limits towards a DICOMweb peer; none of it is ever shown or logged.

    Attributes:
        username, password: basic authentication (RFC 7617).
        token: bearer token (RFC 6750), in place of them.
        token_file: holds the bearer token; read again for each request, so that it may be renewed.
        certificate_authority: PEM file of those that the peer's certificate is checked against, in place of the
            usual ones.
        client_certificate: PEM file with our certificate and key, where the peer asks for one.
        timeout_seconds: for connecting and for each answer.
        maximum_bytes: of one answer; a larger one is refused.
    """

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    token_file: Path | None = None
    certificate_authority: Path | None = None
    client_certificate: Path | None = None
    timeout_seconds: float = 30.0
    maximum_bytes: int = 2**33

    def __post_init__(self) -> None:
        ways = [self.username is not None, self.token is not None, self.token_file is not None]
        if sum(ways) > 1:
            raise ConfigurationError(
                "dicomweb: give one of username with password, token, or token_file; the others must be left out"
            )
        if (self.username is None) != (self.password is None):
            raise ConfigurationError("dicomweb: username and password belong together: give both or neither")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> PeerAccess:
        """From RCMED_DICOMWEB_USERNAME, _PASSWORD, _TOKEN, _TOKEN_FILE, _CERTIFICATE_AUTHORITY, _CLIENT_CERTIFICATE.

        Raises:
            ConfigurationError: they contradict each other.
        """
        variables = os.environ if environment is None else environment
        given: dict[str, Any] = {}
        for key in ("username", "password", "token"):
            if variables.get(f"RCMED_DICOMWEB_{key.upper()}"):
                given[key] = variables[f"RCMED_DICOMWEB_{key.upper()}"]
        for key in ("token_file", "certificate_authority", "client_certificate"):
            if variables.get(f"RCMED_DICOMWEB_{key.upper()}"):
                given[key] = Path(variables[f"RCMED_DICOMWEB_{key.upper()}"])
        return cls(**given)

    @property
    def has_credentials(self) -> bool:
        """Whether anything secret goes with a request."""
        return self.username is not None or self.token is not None or self.token_file is not None

    def session(self, url: str) -> requests.Session:
        """A session towards the peer at `url`.

        Raises:
            ConfigurationError: the URL is none of http or https, or holds credentials, which belong into the settings.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigurationError("studies: a DICOMweb server is given as http(s)://HOST[:PORT]/PATH")
        if parts.username is not None or parts.password is not None:
            raise ConfigurationError("studies: the URL must hold no user and password; give them as settings")
        if self.has_credentials and parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            logger.warning("credentials go to %s unencrypted: use https", parts.hostname)
        session = _LimitedSession(self.maximum_bytes)
        if self.username is not None and self.password is not None:
            session.auth = HTTPBasicAuth(self.username.encode(), self.password.encode())
        elif self.token is not None or self.token_file is not None:
            session.auth = _BearerToken(self._current_token)
        if self.certificate_authority is not None:
            session.verify = str(self.certificate_authority)
        if self.client_certificate is not None:
            session.cert = str(self.client_certificate)
        return session

    def _current_token(self) -> str:
        if self.token_file is None:
            return self.token or ""
        try:
            return self.token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            raise ConfigurationError(f"{self.token_file}: the token of the DICOMweb peer can't be read") from None


class _BearerToken(AuthBase):
    def __init__(self, current: Callable[[], str]) -> None:
        self._current = current

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._current()}"
        return request


class _LimitedSession(requests.Session):
    """Takes no answer beyond a number of bytes, counted as they come, unpacked: a header may lie, or be absent."""

    def __init__(self, maximum_bytes: int) -> None:
        super().__init__()
        self._maximum = maximum_bytes
        # No credentials of ~/.netrc in place of the configured ones, no proxy that nobody configured here.
        self.trust_env = False

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send, and count what comes back."""
        stream = kwargs.pop("stream", False)
        response = super().send(request, stream=True, **kwargs)
        if not isinstance(response.raw, _LimitedBody):
            response.raw = _LimitedBody(response.raw, self._maximum)
        if not stream:
            response.content  # noqa: B018 (reads the body)
        return response


class _LimitedBody:
    def __init__(self, body: Any, maximum: int) -> None:
        self._body = body
        self._left = maximum
        self._maximum = maximum

    def stream(self, amount: int = _CHUNK_BYTES, **kwargs: Any) -> Any:
        for chunk in self._body.stream(amount, **kwargs):
            self._left -= len(chunk)
            if self._left < 0:
                self._body.close()
                raise PeerError(f"the DICOMweb server's answer is larger than the limit of {self._maximum} bytes")
            yield chunk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)
