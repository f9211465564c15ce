"""`rcmed train`: trains, or goes on where its output folder left off."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rcmed.modality import Modality


def train(
    data: Annotated[
        Path | None,
        typer.Argument(help="Your own images/NAME.png and masks/TARGET/NAME.png, or a folder that `convert` wrote."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file with the settings of the run.")] = None,
    output: Annotated[Path | None, typer.Option(help="Where the model goes; instead of the settings' output.")] = None,
    modality: Annotated[
        Modality | None, typer.Option(help="Of one's own images, where their file names do not say.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda; of several processes each takes its own GPU.")] = "cpu",
) -> None:
    """Train a model on images and masks; without settings it goes on from the small weights for a short run.

    `accelerate launch -m rcmed train ...` starts it in several processes.
    """
    from rcmed.errors import ConfigurationError

    if data is None and config is None:
        raise ConfigurationError("train: give a folder of images and masks, --config, or both")
    for given in (data, config):
        if given is not None and not given.exists():
            raise ConfigurationError(f"{given}: no such file or folder")
    from rcmed.answers.folders import require_writable
    from rcmed.data.conversion import convert
    from rcmed.data.conversion.converter import index_file
    from rcmed.data.conversion.labelled import cases_of_own
    from rcmed.devices import usable_device
    from rcmed.training.processes import Processes
    from rcmed.training.settings import TrainingSettings
    from rcmed.training.trainer import Trainer

    settings = TrainingSettings.short() if config is None else TrainingSettings.from_yaml(config)
    if output is not None or config is None:
        settings = settings.model_copy(update={"output": output or Path("trained")})
    usable_device(device)
    require_writable(settings.output)
    processes = Processes(device)
    if data is not None:
        root = data
        if not (data / index_file("train")).exists():
            root = settings.output / "data"
            if processes.is_main:
                for done in convert(cases_of_own(data, modality, test_share=0.0), root):
                    if done.refusal is not None:
                        typer.echo(f"rcmed: {done.refusal}", err=True)
            processes.wait()
        settings = settings.model_copy(update={"root": root, "index": root / index_file("train")})
    folder = Trainer(settings, processes=processes).run(show_progress=processes.is_main)
    if processes.is_main:
        typer.echo(f"model written to {folder}")
    processes.end()
