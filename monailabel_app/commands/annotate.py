"""`rcmed annotate`: the server for 3D Slicer and OHIF, until it is told to stop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rcmed.image import Modality


def annotate(
    studies: Annotated[str | None, typer.Option(help="A folder of images, or a DICOMweb server's address.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on [default: 127.0.0.1].")] = None,
    port: Annotated[int | None, typer.Option(help="0 takes a free port [default: 8000].")] = None,
    model: Annotated[str | None, typer.Option(help="small, or a model folder [default: small].")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda [default: auto].")] = None,
    state: Annotated[
        Path | None, typer.Option(help="Folder for sessions and trained versions [default: annotate-state].")
    ] = None,
    modality: Annotated[Modality | None, typer.Option(help="For files that do not say.")] = None,
) -> None:
    """Serve 3D Slicer and OHIF: type what to find, correct it, submit it. Ends at SIGTERM or SIGINT.

    Everything else is set in the environment: RCMED_ANNOTATE_..., see monailabel_app/settings.py.
    """
    import logging
    import signal

    from monailabel_app.settings import AnnotateSettings

    settings = AnnotateSettings.of(
        studies=studies, host=host, port=port, model=model, device=device, state=state, modality=modality
    )
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    logging.getLogger("monailabel_app").setLevel(logging.INFO)

    from dicom_bridge.web.server import WebServer
    from monailabel_app.server import SessionSweeper, create_server, load_app

    # Blocked before any thread starts, so that every thread inherits it and `sigwait` alone takes the signal.
    stops = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, stops)
    served = load_app(settings)
    web = WebServer(create_server(served, settings), settings.host, settings.port)
    web.start()
    sweeper = SessionSweeper(served)
    sweeper.start()
    shown = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"http://{shown}:{web.port}/"
    typer.echo(f"RCMed serves {settings.studies} to 3D Slicer (MONAI Label server {address})")
    typer.echo(f"OHIF: {address}ohif/")
    signal.sigwait(stops)
    typer.echo("stopping")
    sweeper.stop()
    web.stop()
