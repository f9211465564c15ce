"""`rcmed annotate`: the server for 3D Slicer and OHIF, until it is told to stop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rcmed.errors import ConfigurationError
from rcmed.modality import Modality


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

    if not settings.is_remote and not Path(settings.studies).is_dir():
        raise ConfigurationError(
            f"studies: {settings.studies}: no such folder; give a folder, or the URL of a DICOMweb server"
        )

    from monailabel_app.server.lifetime import AnnotationServer

    # Blocked before any thread starts, so that every thread inherits it and `sigwait` alone takes the signal.
    stops = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, stops)
    with AnnotationServer(settings) as server:
        typer.echo(f"RCMed serves {settings.studies} to 3D Slicer (MONAI Label server {server.address})")
        typer.echo(f"OHIF: {server.address}ohif/")
        signal.sigwait(stops)
        typer.echo("stopping")
