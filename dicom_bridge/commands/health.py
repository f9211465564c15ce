"""`rcmed health`: does the gateway on this machine say that it is well? For health checks of containers and scripts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def health(
    config: Annotated[Path | None, typer.Option(help="The gateway's YAML file. Without it the defaults hold.")] = None,
    timeout_seconds: Annotated[float, typer.Option(help="How long it may take to answer.")] = 10.0,
) -> None:
    """Ask /healthz of the gateway that runs with these settings; exit status 1 when it is sick or does not answer."""
    import ssl

    import httpx

    from dicom_bridge.settings import GatewaySettings
    from rcmed.errors import ConfigurationError

    settings = GatewaySettings() if config is None else GatewaySettings.from_yaml(config)
    web = settings.web
    if not web.enabled or web.port == 0:
        raise ConfigurationError("web: must be enabled, on a port of its own, for its health to be asked")
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "::1": "[::1]"}.get(web.host, web.host)
    verify: ssl.SSLContext | bool = True
    if web.tls is not None:
        # Our own certificate names the host, not loopback; nothing secret is sent, and what is told is "ok" or "sick".
        verify = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        verify.check_hostname, verify.verify_mode = False, ssl.CERT_NONE
        verify.load_cert_chain(web.tls.certificate, web.tls.key)
    address = f"{'http' if web.tls is None else 'https'}://{host}:{web.port}/healthz"
    try:
        answer = httpx.get(address, verify=verify, timeout=timeout_seconds, trust_env=False)
        status = str(answer.json()["status"])
    except (httpx.HTTPError, OSError, ValueError, KeyError, TypeError) as error:
        typer.echo(f"{address} does not answer ({type(error).__name__})", err=True)
        raise typer.Exit(1) from None
    typer.echo(status)
    if answer.status_code != 200:
        raise typer.Exit(1)
