"""`rcmed evaluate`: the published index, scored target by target."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import numpy as np
import typer


class Prompts(StrEnum):
    """Which targets are asked of each image."""

    PRESENT = "present"
    LABELLED = "labelled"
    NONE = "none"


def evaluate(
    index: Annotated[Path, typer.Argument(help="An index in the published format.")],
    root: Annotated[Path, typer.Option(help="The folder that the index's paths are relative to.")],
    output: Annotated[Path, typer.Option(help="Where metrics.csv, summary.md, summary.html and overlays/ go.")] = Path(
        "evaluation"
    ),
    prompts: Annotated[
        Prompts, typer.Option(help="Ask for what is present, for all that was labelled, or for nothing (recognise).")
    ] = Prompts.PRESENT,
    model: Annotated[str, typer.Option(help="small or a model folder.")] = "small",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    overlays: Annotated[
        int, typer.Option(help="Overlay pictures per target: the worst, the best, the false positives.")
    ] = 2,
) -> None:
    """Score a model on an index: Dice, IoU, NSD and presence for every (data set, target) pair."""
    from rich.progress import track

    from rcmed.assistant import Assistant
    from rcmed.data.triplets import read_index
    from rcmed.evaluation.metrics import score_mask
    from rcmed.evaluation.page import write_page
    from rcmed.evaluation.pictures import KeptMasks, write_extremes
    from rcmed.evaluation.recognition import count_boxes
    from rcmed.evaluation.rows import ScoreRow
    from rcmed.evaluation.tables import summarise, write_csv
    from rcmed.image import Grid, Image
    from rcmed.measurements import find_boxes
    from rcmed.vocabulary import target_named

    triplets = read_index(index, root)
    assistant = Assistant.from_pretrained(model, device)
    output.mkdir(parents=True, exist_ok=True)
    rows = []
    kept = KeptMasks()
    for triplet in track(triplets, description="evaluating"):
        pixels = triplet.read_pixels()[None]
        image = Image(pixels, Grid.without_geometry(*pixels.shape[1:3]), triplet.modality)
        asked = sorted(triplet.masks) if prompts is Prompts.PRESENT else sorted({*triplet.labelled, *triplet.masks})
        targets = [target_named(name) for name in asked]
        if prompts is Prompts.NONE:
            found = {f.target.name: f for f in assistant.find(image).findings if f.target is not None}
        else:
            found = {f.target.name: f for f in assistant.find_targets(image, targets) if f.target is not None}
        for target in targets:
            truth = triplet.read_mask(target.name)
            finding = found.get(target.name)
            mask = np.zeros_like(truth) if finding is None or finding.mask is None else finding.mask[0]
            score = score_mask(mask, truth)
            boxes = count_boxes(() if finding is None else finding.boxes, find_boxes(truth[None]))
            presence = 0.0 if finding is None else finding.presence
            if presence is None:
                presence = float(mask.any())
            rows.append(
                ScoreRow(
                    str(triplet.image.relative_to(root)),
                    triplet.modality.value,
                    triplet.dataset,
                    target.name,
                    score.dice,
                    score.iou,
                    score.nsd,
                    presence,
                    bool(truth.any()),
                    bool(mask.any()),
                    boxes.found,
                    boxes.true,
                    boxes.matched,
                    "" if finding is None else finding.status.value,
                    triplet.patient,
                )
            )
            if overlays:
                kept.keep(rows[-1], mask)
    write_csv(rows, output / "metrics.csv")
    summary = summarise(rows)
    (output / "summary.md").write_text(summary)
    pictures = []
    if overlays:
        by_image = {str(triplet.image.relative_to(root)): triplet for triplet in triplets}
        pictures = write_extremes(rows, by_image, kept, output / "overlays", overlays)
    write_page(summary, pictures, assistant.identity, index, len(rows), output / "summary.html")
    typer.echo(summary)
