"""Orders for the gateway that runs on a configuration, by its REST API."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import httpx

from dicom_bridge.security.secret_file import read_secret
from dicom_bridge.settings import GatewaySettings
from rcmed.errors import ConfigurationError, InputError


def ask_gateway(settings: GatewaySettings, order: dict[str, Any], config: Path) -> dict[str, Any]:
    """Give the gateway an order; when this returns, it is written down there.

    Raises:
        ConfigurationError: the web port is switched off or has no fixed number, or no gateway answers there.
        InputError: the gateway did not take the order; the line says why.
    """
    web = settings.web
    if not web.enabled or web.port == 0:
        raise ConfigurationError(f"{config}: web: must be enabled with a port of its own to take orders")
    loopback = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(web.host, web.host)
    host = f"[{loopback}]" if ":" in loopback else loopback
    url = f"{'http' if web.tls is None else 'https'}://{host}:{web.port}/api/pull"
    headers = {}
    if web.token_file is not None:
        headers["Authorization"] = f"Bearer {read_secret(web.token_file, 'web.token_file')}"
    verify: ssl.SSLContext | bool = True
    if web.tls is not None:
        verify = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # The very certificate that the configuration names, whatever the name is that we call it by.
        verify.check_hostname = False
        verify.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        verify.load_verify_locations(web.tls.certificate)
        verify.load_cert_chain(web.tls.certificate, web.tls.key)
    try:
        answer = httpx.post(url, json=order, headers=headers, verify=verify, trust_env=False, timeout=60)
    except httpx.HTTPError as error:
        raise ConfigurationError(
            f"no gateway answers at {url} ({type(error).__name__}): start it with rcmed serve --config {config}"
        ) from None
    if answer.status_code == 401:
        mend = "is it the one of this gateway?" if web.token_file is not None else "give it one beside web.oidc"
        raise ConfigurationError(f"web.token_file: {url} does not take the token: {mend}")
    if answer.status_code in (404, 422):
        detail = answer.json().get("detail")
        raise InputError(detail if isinstance(detail, str) else f"{url} did not take the order: {detail}")
    if answer.status_code != 202:
        raise ConfigurationError(f"{url} answers with HTTP status {answer.status_code}: look at the gateway's log")
    content: dict[str, Any] = answer.json()
    return content
