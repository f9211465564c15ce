"""`rcmed train`: trains, or goes on where its output folder left off."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train(
    config: Annotated[Path, typer.Option(help="A YAML file with the settings of the run.")],
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Train a model on an index of images and masks."""
    from rcmed.training.settings import TrainingSettings
    from rcmed.training.trainer import Trainer

    folder = Trainer(TrainingSettings.from_yaml(config), device).run()
    typer.echo(f"model written to {folder}")
