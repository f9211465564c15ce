"""What destinations by HTTP share: a session that trusts what was configured and nothing else."""

from __future__ import annotations

import requests

from dicom_bridge.security.tls import client_context
from dicom_bridge.settings import ClientTlsSettings
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


def is_passing(status: int) -> bool:
    """Whether an HTTP status tells of the server's state (busy, broken, wrong password), not of the objects sent."""
    return status >= 500 or status in (401, 403, 404, 408, 425, 429)
