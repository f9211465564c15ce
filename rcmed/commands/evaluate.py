"""`rcmed evaluate`: the published index, or volumes with label maps, scored target by target."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

# An image is encoded once for the words, the click and the box.
ONE_IMAGE_BYTES = 256 * 2**20


class Prompts(StrEnum):
    """Which targets are asked of each image."""

    PRESENT = "present"
    LABELLED = "labelled"
    NONE = "none"


def evaluate(
    index: Annotated[
        Path, typer.Argument(help="An index in the published format, or a folder of volumes with label maps.")
    ],
    root: Annotated[
        Path | None, typer.Option(help="The folder that the index's paths are relative to; of an index alone.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Where metrics.csv, summary.md, summary.html and overlays/ go.")] = Path(
        "evaluation"
    ),
    prompts: Annotated[
        Prompts, typer.Option(help="Ask for what is present, for all that was labelled, or for nothing (recognise).")
    ] = Prompts.PRESENT,
    model: Annotated[str, typer.Option(help="small or a model folder.")] = "small",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or onnx.")] = "auto",
    foreign: Annotated[
        int, typer.Option(min=0, help="Targets of other modalities that each image is asked for: none is there.")
    ] = 0,
    hints: Annotated[
        bool, typer.Option(help="Ask with a simulated click and box as well, where the weights take hints.")
    ] = True,
    overlays: Annotated[
        int, typer.Option(min=0, help="Overlay pictures per target: the worst, the best, the false positives.")
    ] = 2,
    trained: Annotated[
        Path | None, typer.Option(help="Of volumes: index of the training images; their patients are left out.")
    ] = None,
    with_trained: Annotated[
        bool, typer.Option("--with-trained", help="Of volumes: let patients that were trained on count in the means.")
    ] = False,
) -> None:
    """Score a model on an index (Dice, IoU, NSD and presence for every pair of data set and target) or on volumes.

    Volumes lie in folders with image.nii.gz, label.nii.gz and labels.json; they are scored in mm and ml. Names that no
    target has are counted and left out; images that can't be read are told, and end it with 2.
    """
    from rcmed.errors import ConfigurationError

    if index.is_dir():
        from rcmed.commands.evaluate_volumes import evaluate_volumes

        return evaluate_volumes(index, output, model, device, overlays, trained, with_trained)
    if root is None:
        raise ConfigurationError("--root is missing: the folder that the index's paths are relative to")
    from rcmed.data.triplets import read_index

    triplets = read_index(index, root)
    from rich.progress import track

    from rcmed.answers.folders import require_writable
    from rcmed.assistant import Assistant
    from rcmed.devices import usable_device
    from rcmed.errors import InputError
    from rcmed.evaluation.page import write_page
    from rcmed.evaluation.pictures import KeptMasks, write_extremes
    from rcmed.evaluation.rows import ScoreRow
    from rcmed.evaluation.scoring import scorable, score_triplet
    from rcmed.evaluation.tables import summarise, write_csv
    from rcmed.model.packaged import require_complete

    usable_device(device)
    require_complete(model)
    require_writable(output)
    assistant = Assistant.from_pretrained(model, device, cache_bytes=ONE_IMAGE_BYTES)
    is_hinted = hints and assistant.takes_hints and prompts is not Prompts.NONE
    output.mkdir(parents=True, exist_ok=True)
    rows = []
    kept = KeptMasks()
    unknown: Counter[str] = Counter()
    refused = 0
    for triplet in track(triplets, description="evaluating"):
        asked = sorted(triplet.masks) if prompts is Prompts.PRESENT else sorted({*triplet.labelled, *triplet.masks})
        names = scorable(assistant, asked)
        unknown.update(set(asked) - set(names))
        try:
            scored = score_triplet(triplet, root, assistant, names, prompts is Prompts.NONE, foreign, is_hinted)
            for row, mask in scored:
                rows.append(row)
                if overlays and not row.foreign:
                    kept.keep(row, mask)
        except InputError as error:
            typer.echo(f"rcmed: {error}", err=True)
            refused += 1
    write_csv(rows, output / "metrics.csv", ScoreRow)
    summary = summarise(rows, unknown)
    (output / "summary.md").write_text(summary)
    pictures = []
    if overlays:
        by_image = {str(triplet.image.relative_to(root)): triplet for triplet in triplets}
        pictures = write_extremes(rows, by_image, kept, output / "overlays", overlays)
    write_page(summary, pictures, assistant.identity, index, len(rows), output / "summary.html")
    typer.echo(summary)
    if refused:
        raise typer.Exit(2)
