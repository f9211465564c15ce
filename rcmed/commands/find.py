"""`rcmed find`: ask images in words from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rcmed.commands.pointing import BOX, CLICK, read_pointing
from rcmed.modality import Modality


def find(
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="INPUT...", help="PNG, JPEG, TIFF, NIfTI, NRRD, MHA, a DICOM file or folder."),
    ],
    prompt: Annotated[
        str, typer.Option(help='What to find, e.g. "liver; left kidney". Nothing: recognise what is there.')
    ] = "",
    output: Annotated[Path, typer.Option(help="Where findings.json, masks and overlays go.")] = Path("findings"),
    modality: Annotated[Modality | None, typer.Option(help="For files that do not say.")] = None,
    model: Annotated[str, typer.Option(help="small or a model folder.")] = "small",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or onnx.")] = "auto",
    describer: Annotated[
        Path | None,
        typer.Option(help="Folder of a vision-language model that describes what is found; without: words by rule."),
    ] = None,
    results: Annotated[
        str,
        typer.Option(help="Of DICOM input, which objects: seg, sr, secondary_capture, key_objects, rtstruct, pdf."),
    ] = "seg, sr",
    click: Annotated[
        list[str], typer.Option(metavar=CLICK, help="A pixel of the target, of weights that take hints. Repeatable.")
    ] = [],  # noqa: B006
    click_outside: Annotated[list[str], typer.Option(metavar=CLICK, help="A pixel beside the target.")] = [],  # noqa: B006
    box: Annotated[list[str], typer.Option(metavar=BOX, help="First and last pixel of a box around the target.")] = [],  # noqa: B006
    examples: Annotated[
        Path | None,
        typer.Option(help="Of a new target: a folder with its name that holds images/ and masks/."),
    ] = None,
) -> None:
    """Find targets in images; masks come back on each input's own grid."""
    if not any(path.exists() for path in inputs):
        # Said before anything is loaded.
        for path in inputs:
            typer.echo(f"rcmed: {path}: no such file or folder", err=True)
        raise typer.Exit(2)
    from rcmed.answers.folders import AnswerFolders, require_writable
    from rcmed.answers.writing import remove_answer, require_kinds, require_no_input, write_answer
    from rcmed.devices import usable_device
    from rcmed.errors import ConfigurationError, InputError
    from rcmed.model.packaged import require_complete
    from rcmed.readers import read_images

    # Whatever is wrong with the command itself is said before anything is read.
    kinds = [kind.strip() for kind in results.split(",") if kind.strip()]
    require_kinds(kinds)
    hints = read_pointing(click, click_outside, box)
    if hints and len(inputs) > 1:
        raise ConfigurationError("--click, --click-outside and --box point at one image: give one input")
    usable_device(device)
    require_complete(model)
    if describer is not None and not describer.is_dir():
        raise ConfigurationError(f"--describer {describer}: no such folder")
    require_writable(output)
    from rcmed.assistant import Assistant
    from rcmed.examples import read_examples

    assistant: Assistant | None = None
    learned = None
    if examples is not None:
        name = examples.resolve().name.replace("_", " ").replace("-", " ")
        learned = (name, *read_examples(examples, modality))
        prompt = prompt or name
    folders = AnswerFolders(output, inputs)
    refused = 0
    for path in folders.inputs:
        try:
            images = read_images(path, modality)
            if hints and len(images) > 1:
                raise InputError(f"{path}: it holds {len(images)} images, and clicks and boxes point at one: give one")
            places = folders.of(path, len(images))
            for image, folder in zip(images, places, strict=True):
                require_no_input(image, folder)
            assistant = assistant or Assistant.from_pretrained(model, device, describer=describer)
            if learned is not None:
                assistant, learned = assistant.with_examples(*learned), None
            for earlier in folders.left_over(path, len(images)):
                typer.echo(f"rcmed: {earlier}: held an answer of an earlier run, which is removed", err=True)
                remove_answer(earlier)
            for image, folder in zip(images, places, strict=True):
                for warning in image.warnings:
                    typer.echo(f"rcmed: {warning}", err=True)
                findings = assistant.find(image, prompt, hints)
                for line in write_answer(image, findings, folder, kinds):
                    typer.echo(f"rcmed: {line}", err=True)
                typer.echo(f"{path}: {findings.answer}")
                for finding in findings.findings:
                    if finding.reason:
                        typer.echo(f"rcmed: {finding.prompt!r}: {finding.reason}", err=True)
        except InputError as error:
            typer.echo(f"rcmed: {error}", err=True)
            refused += 1
    if refused:
        raise typer.Exit(2)
