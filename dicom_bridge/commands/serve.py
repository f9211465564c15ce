"""`rcmed serve`: the gateway with its status page, until it is told to stop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def serve(
    config: Annotated[
        Path | None, typer.Option(help="A YAML file like configs/gateway.yaml. Without it the defaults hold.")
    ] = None,
) -> None:
    """Receive studies by DICOM, find what the routes ask for, and deliver SEG and SR. Ends at SIGTERM or SIGINT."""
    import os
    import signal

    # Read when tqdm is imported: progress bars between lines of a log are of no use to anyone.
    os.environ.setdefault("TQDM_DISABLE", "1")

    from dicom_bridge.app import Gateway
    from dicom_bridge.jobs.loading import LoadingAssistant
    from dicom_bridge.logs import set_up_logging
    from dicom_bridge.settings import GatewaySettings

    settings = GatewaySettings() if config is None else GatewaySettings.from_yaml(config)
    set_up_logging(settings.log)
    # Blocked before any thread starts, so that every thread inherits it and `sigwait` alone takes the signal.
    stops = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, stops)
    assistant = LoadingAssistant.from_settings(settings.model)
    with Gateway(settings, assistant) as gateway:
        ports = gateway.ports
        scheme = "http" if settings.web.tls is None else "https"
        page = f", status page {scheme}://{settings.web.host}:{ports.web}/" if ports.web is not None else ""
        typer.echo(f"listening as {settings.receive.ae_title} on {settings.receive.host}:{ports.dicom}{page}")
        if settings.model.load == "at start":
            assistant.begin()
        signal.sigwait(stops)
        typer.echo("stopping; what is unfinished goes on at the next start")
