"""OpenID Connect: tokens that an identity provider signed (RFC 7519, RFC 9068), checked with its published keys.

Only signatures with a private key are accepted, and which ones is ours to say, never the token's: so neither "none" nor
a public key that is used as the secret of an HMAC gets through (RFC 8725, 2.1).
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import jwt

from dicom_bridge.security.tls import client_context
from dicom_bridge.settings import OidcSettings
from rcmed.errors import RCMedError

KEYS_SECONDS = 3600.0
"""Published keys are asked for again after this time."""
STALE_SECONDS = 86_400.0
"""Known keys are used for so long while the provider does not answer."""
PAUSE_SECONDS = 30.0
"""Between two requests for keys, whatever keys tokens name: nobody can make us flood the provider."""


class RefusedTokenError(RCMedError):
    """The token is not accepted; the text says why."""


class ForbiddenError(RCMedError):
    """The token is sound, and its bearer may not use the gateway."""


class ProviderUnavailableError(RCMedError):
    """The identity provider does not answer, and no key of it is known."""


@dataclass(frozen=True)
class PublishedKey:
    """A public key of a provider; `algorithm` is the only one that it is for, where the provider says so."""

    key: Any
    algorithm: str | None


class Provider:
    """What an identity provider publishes: where it answers, and its keys. Safe to call from any thread."""

    def __init__(self, settings: OidcSettings, clock: Callable[[], float] = time.monotonic) -> None:
        """Prepare; nothing is asked before the first token.

        Raises:
            ConfigurationError: `trusted` can't be read.
        """
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: dict[str | None, PublishedKey] = {}
        self._fetched_at: float | None = None
        self._asked_at: float | None = None
        self.tls: ssl.SSLContext | bool = True
        if settings.tls is not None:
            self.tls = client_context(settings.tls, "web.oidc.tls")

    @property
    def metadata_url(self) -> str:
        """Where the provider describes itself (OpenID Connect Discovery 4)."""
        return f"{self._settings.issuer.rstrip('/')}/.well-known/openid-configuration"

    def discover(self) -> dict[str, Any]:
        """The provider's description of itself.

        Raises:
            ProviderUnavailableError: no answer, or it calls itself something else.
        """
        found = self._get(self.metadata_url)
        if found.get("issuer") != self._settings.issuer:
            raise ProviderUnavailableError(f"{self.metadata_url} is of another issuer than web.oidc.issuer")
        return found

    def key(self, identifier: str | None) -> PublishedKey | None:
        """The key that a token names; one that names none means the only one there is.

        Raises:
            ProviderUnavailableError: no key is known, and the provider can't be asked.
        """
        with self._lock:
            now = self._clock()
            is_old = self._fetched_at is None or now - self._fetched_at >= KEYS_SECONDS
            if is_old or self._find(identifier) is None:
                self._refresh(now)
            return self._find(identifier)

    def _find(self, identifier: str | None) -> PublishedKey | None:
        if identifier is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(identifier)

    def _refresh(self, now: float) -> None:
        is_usable = self._fetched_at is not None and now - self._fetched_at < STALE_SECONDS
        if self._asked_at is not None and now - self._asked_at < PAUSE_SECONDS:
            if not is_usable:
                raise ProviderUnavailableError(f"{self._settings.issuer} did not answer a moment ago")
            return
        self._asked_at = now
        try:
            keys = self._get(str(self.discover().get("jwks_uri"))).get("keys")
        except ProviderUnavailableError:
            if is_usable:
                return
            self._keys = {}
            raise
        self._keys = dict(_published(keys if isinstance(keys, list) else []))
        self._fetched_at = now

    def _get(self, url: str) -> dict[str, Any]:
        try:
            reply = httpx.get(url, timeout=self._settings.timeout_seconds, verify=self.tls, trust_env=False)
            reply.raise_for_status()
            content = reply.json()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise ProviderUnavailableError(f"{url} does not answer ({type(error).__name__})") from None
        if not isinstance(content, dict):
            raise ProviderUnavailableError(f"{url} answers something else")
        return content


def _published(keys: Iterable[Any]) -> Iterator[tuple[str | None, PublishedKey]]:
    """The keys for signatures of a JSON Web Key Set (RFC 7517); those that can't be used are passed over."""
    for one in keys:
        if not isinstance(one, Mapping) or one.get("kty") == "oct" or one.get("use") not in (None, "sig"):
            continue
        try:
            yield one.get("kid"), PublishedKey(jwt.PyJWK.from_dict(dict(one)).key, one.get("alg"))
        except jwt.PyJWTError:
            continue


class OidcTokens:
    """Checks tokens of one provider. Safe to call from any thread."""

    def __init__(self, settings: OidcSettings, provider: Provider) -> None:
        self._settings = settings
        self._provider = provider

    def admit(self, token: str, audience: str | None = None) -> Mapping[str, Any]:
        """The claims of a token whose bearer may use the gateway.

        Args:
            token: a signed JWT.
            audience: whom it must be for; None: `web.oidc.audience`.
        Raises:
            RefusedTokenError: not signed by the provider, expired, not valid yet, or for someone else.
            ForbiddenError: without the claim that `web.oidc.required_claim` asks for.
            ProviderUnavailableError: no key is known, and the provider can't be asked.
        """
        settings = self._settings
        try:
            header = jwt.get_unverified_header(token)
            algorithm = header.get("alg")
            if algorithm not in settings.algorithms:
                raise RefusedTokenError("it is signed by an algorithm that web.oidc.algorithms does not name")
            key = self._provider.key(header.get("kid"))
            if key is None or key.algorithm not in (None, algorithm):
                raise RefusedTokenError("the issuer has no such key")
            claims: dict[str, Any] = jwt.decode(
                token,
                key.key,
                algorithms=list(settings.algorithms),
                audience=audience or settings.audience,
                issuer=settings.issuer,
                leeway=settings.leeway_seconds,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise RefusedTokenError(str(error) or type(error).__name__) from None
        if settings.required_claim is not None and not _holds(claims, settings.required_claim, settings.required_value):
            raise ForbiddenError(f"{settings.required_claim} does not hold {settings.required_value!r}")
        return claims


def _holds(claims: Mapping[str, Any], path: str, wanted: str | None) -> bool:
    """Whether a claim, a list of texts or a text of words (RFC 8693 4.2), holds a word."""
    value: Any = claims.get(path)
    if value is None:
        value = claims
        for part in path.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
    words = value.split() if isinstance(value, str) else value if isinstance(value, list) else []
    return wanted in words
