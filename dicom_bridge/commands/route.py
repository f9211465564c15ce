"""`rcmed route --explain STUDY`: which routes take the series of a study, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def route(
    explain: Annotated[
        str, typer.Option(metavar="STUDY", help="Study Instance UID in the gateway's index, or a folder with DICOM.")
    ],
    config: Annotated[
        Path | None, typer.Option(help="A YAML file like configs/gateway.yaml. Without it the defaults hold.")
    ] = None,
    calling_ae: Annotated[
        str | None, typer.Option(help="For a folder: the AE title that it is thought to come from.")
    ] = None,
    called_ae: Annotated[
        str | None, typer.Option(help="For a folder: the AE title under which the gateway is called; its own, else.")
    ] = None,
) -> None:
    """Say for every series of a study which rules match, condition by condition, and what would be done.

    Nothing is done or changed; the gateway may run.
    """
    from dicom_bridge.operations.explanation import explain_series, series_in_folder, series_in_index
    from dicom_bridge.settings import GatewaySettings
    from dicom_bridge.store.files.instance_files import UnsafeUidError, require_uid
    from rcmed.errors import InputError

    settings = GatewaySettings() if config is None else GatewaySettings.from_yaml(config)
    folder = Path(explain)
    if folder.exists():
        series, unreadable = series_in_folder(folder, calling_ae, called_ae or settings.receive.ae_title)
        for line in unreadable:
            typer.echo(line, err=True)
    else:
        try:
            require_uid(explain, "the study")
        except UnsafeUidError:
            raise InputError(f"--explain {explain}: neither a folder nor a Study Instance UID") from None
        series = series_in_index(settings, explain)
    for one in series:
        typer.echo("\n".join(explain_series(one, settings.routing.routes, settings.receive.skipped_modalities)))
