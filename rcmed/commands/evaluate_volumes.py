"""`rcmed evaluate FOLDER`: volumes with label maps, scored in three dimensions."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import typer


def evaluate_volumes(
    folder: Path, output: Path, model: str, device: str, overlays: int, trained: Path | None, with_trained: bool
) -> None:
    """Score a model on all volumes under a folder; writes metrics.csv, summary.md, summary.html and overlays/.

    Args:
        overlays: pictures of the worst and of the best answers per target.
        trained: the index of the training images; None: nobody tells.
        with_trained: let patients that were trained on count in the means.
    Raises:
        InputError: there is no volume with a label map, or the index can't be read.
    """
    from rcmed.data.labelled_volumes import find_labelled_volumes

    cases = find_labelled_volumes(folder)
    from rich.progress import track

    from rcmed.answers.folders import require_writable
    from rcmed.assistant import Assistant
    from rcmed.data.training_patients import trained_on
    from rcmed.data.triplets import read_index
    from rcmed.devices import usable_device
    from rcmed.errors import InputError
    from rcmed.evaluation.page import write_page
    from rcmed.evaluation.tables import write_csv
    from rcmed.evaluation.volumes.pictures import VolumePictures
    from rcmed.evaluation.volumes.rows import VolumeRow, score_case
    from rcmed.evaluation.volumes.tables import summarise_volumes
    from rcmed.model.packaged import require_complete

    usable_device(device)
    require_complete(model)
    require_writable(output)
    seen = set() if trained is None else trained_on(cases, read_index(trained, trained.parent))
    assistant = Assistant.from_pretrained(model, device)
    output.mkdir(parents=True, exist_ok=True)
    rows: list[VolumeRow] = []
    unknown: Counter[str] = Counter()
    pictures = VolumePictures()
    refused = 0
    for case in track(cases, description="evaluating"):
        try:
            scored = score_case(case, assistant, seen)
        except InputError as error:
            typer.echo(f"rcmed: {error}", err=True)
            refused += 1
            continue
        unknown.update(scored.unknown)
        rows += [row for row, _, _ in scored.answers]
        if overlays:
            pictures.draw(scored)
    write_csv(rows, output / "metrics.csv", VolumeRow)
    summary = summarise_volumes(rows, unknown, trained is not None, with_trained)
    (output / "summary.md").write_text(summary)
    shown = pictures.write(rows, overlays, output / "overlays") if overlays else []
    write_page(summary, shown, assistant.identity, folder, len(rows), output / "summary.html")
    typer.echo(summary)
    if refused:
        raise typer.Exit(2)
