"""`rcmed serve`: the gateway with its status page, until it is told to stop."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from dicom_bridge.settings import GatewaySettings


def serve(
    config: Annotated[
        Path | None, typer.Option(help="A YAML file like configs/gateway.yaml. Without it the defaults hold.")
    ] = None,
) -> None:
    """Receive studies by DICOM, find what the routes ask for, and deliver SEG and SR. Ends at SIGTERM or SIGINT."""
    from dicom_bridge.settings import GatewaySettings

    run_gateway(GatewaySettings() if config is None else GatewaySettings.from_yaml(config, reads_files=True))


def run_gateway(settings: GatewaySettings, receives: bool = True) -> None:
    """Run until SIGTERM or SIGINT.

    Args:
        settings: of everything.
        receives: whether it listens; else it only works.
    """
    import os
    import signal

    # What is written is its user's alone; a folder that others are to read gets a default ACL (docs/deployment.md).
    os.umask(0o077)
    # Read when tqdm is imported: progress bars between lines of a log are of no use to anyone.
    os.environ.setdefault("TQDM_DISABLE", "1")

    from dicom_bridge.gateway.composition import Gateway
    from dicom_bridge.jobs.loading import LoadingAssistant
    from dicom_bridge.logs import set_up_logging

    set_up_logging(settings.log)
    # Blocked before any thread starts, so that every thread inherits it and `sigwait` alone takes the signal.
    stops = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, stops)
    assistant = LoadingAssistant.from_settings(settings.model)
    with Gateway(settings, assistant, receives, start_anew) as gateway:
        ports = gateway.ports
        scheme = "http" if settings.web.tls is None else "https"
        page = f", status page {scheme}://{settings.web.host}:{ports.web}/" if ports.web is not None else ""
        listening = f"listening as {settings.receive.ae_title} on {settings.receive.host}:{ports.dicom}{page}"
        typer.echo(listening if receives else f"working as {gateway.name}")
        if settings.model.load == "at start":
            assistant.begin()
        signal.sigwait(stops)
        typer.echo("stopping; what is unfinished goes on at the next start")


def start_anew() -> None:
    """Become the same command again, under the same process id; nothing of this one is left, no thread that is stuck.

    Whoever supervises the process need not know of it.
    """
    import os
    import sys
    from contextlib import suppress

    from dicom_bridge.jobs.time_limit import end_process

    with suppress(OSError):
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    end_process()
