"""`rcmed work`: one more process that does jobs, on this machine or another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def work(
    config: Annotated[Path, typer.Option(help="The gateway's YAML file, with database.url of a PostgreSQL.")],
) -> None:
    """Do jobs of a gateway that others receive for: same PostgreSQL, same state folder. Ends at SIGTERM or SIGINT."""
    from dicom_bridge.commands.serve import run_gateway
    from dicom_bridge.settings import GatewaySettings

    run_gateway(GatewaySettings.from_yaml(config, reads_files=True), receives=False)
