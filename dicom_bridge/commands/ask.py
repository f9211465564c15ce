"""`rcmed ask`: ask images in the browser, on this machine alone, until it is told to stop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rcmed.modality import Modality


def ask(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILES]...", help="To begin with: pictures, volume files, DICOM files, folders."),
    ] = None,
    modality: Annotated[Modality | None, typer.Option(help="For files that do not say.")] = None,
    model: Annotated[str, typer.Option(help="small or a model folder.")] = "small",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or onnx.")] = "auto",
    port: Annotated[int, typer.Option(min=0, max=65535, help="On 127.0.0.1; 0 takes a free one.")] = 0,
    browser: Annotated[bool, typer.Option(help="Open the browser.")] = True,
) -> None:
    """Open a page on which images are dropped and asked in words; nothing leaves this machine. Ends at Ctrl-C."""
    paths = files or []
    missing = [path for path in paths if not path.exists()]
    for path in missing:
        # Said before anything is loaded.
        typer.echo(f"rcmed: {path}: no such file or folder", err=True)
    if missing:
        raise typer.Exit(2)
    import os
    import signal
    import threading

    # Read when tqdm is imported: nobody looks at progress bars here.
    os.environ.setdefault("TQDM_DISABLE", "1")

    from dicom_bridge.asking.application import build_application
    from dicom_bridge.asking.asking import AnswersPage, Asking
    from dicom_bridge.asking.opening import open_browser
    from dicom_bridge.asking.uploads import Uploads, open_paths
    from dicom_bridge.web.server import WebServer
    from rcmed.devices import usable_device
    from rcmed.errors import ConfigurationError
    from rcmed.model.packaged import require_complete

    usable_device(device)
    require_complete(model)

    def load() -> AnswersPage:
        from rcmed.assistant import Assistant

        return Assistant.from_pretrained(model, device, cache_bytes=512 * 2**20)

    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    uploads = Uploads()
    asking = Asking(load)
    server = WebServer(build_application(uploads, asking, modality), "127.0.0.1", port)
    try:
        begun = open_paths(uploads, paths, modality) if paths else None
        for line in begun.refused if begun is not None else ():
            typer.echo(f"rcmed: {line}", err=True)
        try:
            server.start()
        except OSError as error:
            raise ConfigurationError(f"--port {port}: can't listen on 127.0.0.1 there ({error.strerror})") from None
        address = f"http://127.0.0.1:{server.port}/" + (f"#{begun.identifier}" if begun is not None else "")
        is_opened = browser and open_browser(address)
        typer.echo(f"{'opened' if is_opened else 'open in a browser'}: {address}   (Ctrl-C ends)")
        stopped.wait()
    finally:
        asking.close()
        server.stop()
        uploads.close()
