"""`rcmed doctor`: is everything there that the gateway needs, and do its peers answer?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def doctor(
    config: Annotated[
        Path | None, typer.Option(help="A YAML file like configs/gateway.yaml. Without it the defaults hold.")
    ] = None,
) -> None:
    """Look at what is installed and configured and ask every destination; exit status 2 when something is wrong."""
    from rich.console import Console
    from rich.text import Text

    from dicom_bridge.operations.doctor import Verdict, examine
    from dicom_bridge.settings import GatewaySettings

    settings = GatewaySettings() if config is None else GatewaySettings.from_yaml(config)
    console = Console()
    colours = {Verdict.OK: "green", Verdict.NOTE: "yellow", Verdict.WRONG: "red"}
    wrong = 0
    for check in examine(settings):
        wrong += check.verdict == Verdict.WRONG
        verdict = Text(f"{check.verdict:<6}", colours[check.verdict])
        console.print(verdict, Text(f"{check.about}: {check.text}"), soft_wrap=True)
    if wrong:
        console.print(Text(f"{wrong} to mend", "red"))
        raise typer.Exit(2)
    console.print(Text("nothing to mend", "green"))
