"""`rcmed import-checkpoint`: the published weights to a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def import_checkpoint(
    folder: Annotated[Path, typer.Argument(help="The downloaded checkpoint: shards, index, config.json, tokenizer.")],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder for `--model`.")],
) -> None:
    """Bring the published weights into a model folder, shard by shard."""
    from rcmed.published import import_checkpoint as bring_in

    bring_in(folder, output, on_file=lambda name: typer.echo(f"writing {name}", err=True))
    typer.echo(f"model written to {output}")
