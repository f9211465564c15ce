"""What peers by HTTP share: a session that trusts what was configured and nothing else, and who we are."""

from __future__ import annotations

from collections.abc import Callable

import requests
from requests.auth import HTTPBasicAuth

from dicom_bridge.security.secret_file import read_secret
from dicom_bridge.security.tls import client_context
from dicom_bridge.settings import ClientTlsSettings, DicomWebSource, FhirDestination, StowDestination
from rcmed.errors import ConfigurationError


def open_session(tls: ClientTlsSettings | None, section: str) -> requests.Session:
    """A session; proxies, passwords and authorities of the environment are not used.

    Raises:
        ConfigurationError: a file of the TLS settings can't be used, or they ask for what HTTP here can't do.
    """
    session = requests.Session()
    session.trust_env = False
    if tls is None:
        return session
    client_context(tls, section)  # tells of a file that can't be used now, not at the first delivery
    if not tls.check_host:
        raise ConfigurationError(
            f"{section}.check_host: must be true for https: name the host that is in its certificate"
        )
    if tls.trusted is not None:
        session.verify = str(tls.trusted)
    if tls.certificate is not None and tls.key is not None:
        session.cert = (str(tls.certificate), str(tls.key))
    return session


def authorise(
    session: requests.Session,
    settings: StowDestination | FhirDestination | DicomWebSource,
    setting: Callable[[str], str],
) -> None:
    """Have each request say who we are: by the token where there is one, else by user and password, else not at all.

    Args:
        session: that asks.
        settings: of the peer.
        setting: what a message calls the setting of a name.
    Raises:
        ConfigurationError: a file can't be used.
    """
    if settings.token_file is not None:
        session.headers["Authorization"] = f"Bearer {read_secret(settings.token_file, setting('token_file'))}"
    elif settings.user is not None and settings.password_file is not None:
        password = read_secret(settings.password_file, setting("password_file"))
        session.auth = HTTPBasicAuth(settings.user, password)


def is_passing(status: int) -> bool:
    """Whether an HTTP status tells of the server's state (busy, broken, wrong password), not of the objects sent."""
    return status >= 500 or status in (401, 403, 404, 408, 425, 429)
