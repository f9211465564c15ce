"""`rcmed demo`: the whole line on real images, from a modality's C-STORE to SEG and SR in a PACS."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    output: Annotated[Path, typer.Option(help="Where pictures, SEG, SR and findings.json go.")] = Path("demo"),
    study: Annotated[Path | None, typer.Option(help="A folder with your own DICOM files.")] = None,
    prompt: Annotated[
        str, typer.Option(help='What to find in it, e.g. "liver; spleen". Nothing: recognise what is there.')
    ] = "",
    model: Annotated[str, typer.Option(help="small or a model folder.")] = "small",
) -> None:
    """Send studies to a gateway on loopback, receive what it found as a PACS would, check it, and print a table."""
    from rich.console import Console

    from dicom_bridge.demo.line import run_line
    from dicom_bridge.demo.studies import own_studies, packaged_studies
    from rcmed.answers.folders import require_writable
    from rcmed.assistant import Assistant

    require_writable(output)
    console = Console()
    assistant = Assistant.from_pretrained(model)
    studies = packaged_studies(output / "studies") if study is None else own_studies(study, prompt)
    problems = run_line(studies, assistant, output, console)
    for problem in problems:
        console.print(f"[red]problem[/] {problem}", soft_wrap=True)
    if problems:
        raise typer.Exit(1)
    console.print(f"ask them yourself, in the browser: rcmed ask {study or output / 'studies'}", soft_wrap=True)
