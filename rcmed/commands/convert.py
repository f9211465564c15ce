"""`rcmed convert`: public data sets, and folders of one's own, to the index that `rcmed train` reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rcmed.modality import Modality

OWN_FOLDER = "folder"
PUBLISHED = "datasets2d"


def convert(
    layout: Annotated[str, typer.Argument(metavar="LAYOUT", help="Name of a layout; `list` shows all.")],
    source: Annotated[Path, typer.Argument(help="The folder that the data set was unpacked to.")] = Path("."),
    output: Annotated[Path, typer.Option(help="Where index, images, masks and provenance go.")] = Path("index"),
    modality: Annotated[
        Modality | None, typer.Option(help="Of one's own images, where their file names do not say.")
    ] = None,
    test_share: Annotated[
        float, typer.Option(min=0, max=1, help="Of the patients held out, where the data set does not say who is.")
    ] = 0.1,
    most_slices: Annotated[int, typer.Option(min=1, help="Taken of one volume, evenly spaced.")] = 24,
) -> None:
    """Convert a data set to an index of images and masks; a conversion that was stopped goes on."""
    from rich.progress import track

    from rcmed.answers.folders import require_writable
    from rcmed.data.conversion import convert as convert_cases
    from rcmed.data.conversion import load_layouts
    from rcmed.data.conversion.labelled import cases_of_layout, cases_of_own
    from rcmed.data.conversion.published import link_published
    from rcmed.errors import ConfigurationError

    layouts = load_layouts()
    if layout == "list":
        for name, entry in sorted(layouts.items()):
            typer.echo(f"{name}: {entry.about}; {entry.licence}")
        typer.echo(f"{PUBLISHED}: the authors' Datasets2D, or any index in their format; images stay where they are")
        typer.echo(f"{OWN_FOLDER}: images/NAME.png and masks/TARGET/NAME.png of your own; also NIfTI, NRRD, MHA, TIFF")
        return
    require_writable(output)
    if layout == PUBLISHED:
        for line in link_published(source, output):
            typer.echo(f"rcmed: {line}", err=True)
        typer.echo(f"index written to {output}")
        return
    if layout == OWN_FOLDER:
        cases = list(cases_of_own(source, modality, test_share))
    elif layout in layouts:
        cases = list(cases_of_layout(layouts[layout], source, test_share))
    else:
        known = ", ".join([*sorted(layouts), PUBLISHED, OWN_FOLDER])
        raise ConfigurationError(f"{layout}: no such layout; use one of {known}")
    images = refused = 0
    for done in track(convert_cases(cases, output, most_slices), description="converting", total=len(cases)):
        images += done.images
        if done.refusal is not None:
            refused += 1
            typer.echo(f"rcmed: {done.refusal}", err=True)
    typer.echo(f"{images} images of {len(cases) - refused} cases written to {output}")
    if refused:
        raise typer.Exit(2)
