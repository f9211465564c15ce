"""`rcmed process`: have the gateway fetch studies from an archive, and answer them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def process(
    source: Annotated[str, typer.Option("--from", help="Name of the archive under `sources` of the configuration.")],
    config: Annotated[Path, typer.Option(help="The gateway's YAML file.")],
    study: Annotated[list[str] | None, typer.Option(help="A Study Instance UID; may be given several times.")] = None,
    query: Annotated[
        str, typer.Option(help='All studies that meet it, e.g. "Modality=CT,StudyDate=20260101-20260201".')
    ] = "",
) -> None:
    """Order studies; the gateway that runs on this configuration fetches them one after another and answers them."""
    from dicom_bridge.ingest.pull.ordering import ask_gateway
    from dicom_bridge.ingest.pull.source import parse_query
    from dicom_bridge.settings import GatewaySettings
    from rcmed.errors import InputError

    if bool(study) == bool(query):
        raise InputError("give --study UID or --query CONDITIONS, not both")
    settings = GatewaySettings.from_yaml(config)
    if source not in settings.sources:
        known = ", ".join(sorted(settings.sources)) or "none"
        raise InputError(f"--from: no source {source!r} is configured in {config}, known are: {known}")
    order = {"source": source, "query": parse_query(query)} if query else {"source": source, "studies": study}
    answer = ask_gateway(settings, order, config)
    if query:
        typer.echo(f"the gateway asks {source} for what meets {query}, and fetches it study by study")
    else:
        typer.echo(f"{answer['ordered']} studies ordered from {source}")
