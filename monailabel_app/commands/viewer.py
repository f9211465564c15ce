"""`rcmed viewer`: PACS, gateway, annotation server and OHIF on loopback, until it is told to stop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def viewer(
    study: Annotated[Path | None, typer.Option(help="A folder with your own DICOM files.")] = None,
    prompt: Annotated[str, typer.Option(help="What the gateway looks for in it. Nothing: what is there.")] = "",
    port: Annotated[int | None, typer.Option(help="Of OHIF; 0 takes a free one [default: 8000].")] = None,
    model: Annotated[str | None, typer.Option(help="small, or a model folder [default: small].")] = None,
    state: Annotated[Path, typer.Option(help="Folder of the PACS and of what is annotated.")] = Path("viewer-state"),
) -> None:
    """Start an Orthanc with the demo's studies, the gateway, MONAI Label and OHIF. Ends at SIGTERM or SIGINT."""
    import logging
    import signal
    import threading

    from monailabel_app.settings import AnnotateSettings

    settings = AnnotateSettings.of(port=port, model=model, state=state)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.WARNING)

    from monailabel_app.workstation import Workstation

    # Handled, not blocked: Orthanc would inherit the blocking, and could not be told to end.
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    typer.echo("starting PACS, gateway and annotation server ...")
    with Workstation(settings, study, prompt) as station:
        typer.echo(f"PACS (Orthanc): {station.orthanc.dicomweb_url}, with {len(station.studies)} studies")
        typer.echo(f"gateway's status page: {station.status_url}")
        typer.echo(f"OHIF: {station.ohif_url}   (choose a study, then MONAI Label; Ctrl-C ends)")
        stopped.wait()
        typer.echo("stopping")
