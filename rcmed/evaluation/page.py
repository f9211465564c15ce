"""`summary.html`: the tables of an evaluation and its worst, median and best answers on one page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, PackageLoader

from rcmed.evaluation.pictures import Picture
from rcmed.findings import ModelIdentity


@dataclass
class _Table:
    """A Markdown table, or the lines between two."""

    title: str
    lines: list[str] = field(default_factory=list)
    head: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)


def write_page(
    summary: str, pictures: Sequence[Picture], model: ModelIdentity, index: Path, pairs: int, path: Path
) -> None:
    """Write the page; pictures are named relative to it.

    Args:
        summary: the Markdown of `summarise`.
        pictures: in the order in which they are shown, those of a (data set, target) pair together.
        model: who answered.
        index: of the images.
        pairs: how many (image, target) pairs were scored.
        path: of the page.
    """
    groups = [
        {
            "dataset": dataset,
            "target": target,
            "modality": modality,
            "pictures": [
                {"kind": p.kind, "row": p.row, "source": quote(p.path.relative_to(path.parent).as_posix())}
                for p in members
            ],
        }
        for (dataset, target, modality), members in groupby(
            pictures, key=lambda picture: (picture.row.dataset, picture.row.target, picture.row.modality)
        )
    ]
    environment = Environment(loader=PackageLoader("rcmed.evaluation"), autoescape=True, trim_blocks=True)
    page = environment.get_template("summary.html").render(
        model=f"{model.name} {model.version}",
        weights=model.weights_sha256[:12],
        index=index.name,
        pairs=pairs,
        tables=_tables(summary),
        groups=groups,
    )
    path.write_text(page, encoding="utf-8")


def _tables(summary: str) -> list[_Table]:
    """The parts of the Markdown; a line that ends with a colon is the title of what follows."""
    tables = [_Table("Masks")]
    for line in summary.splitlines():
        if line.startswith("| ---"):
            continue
        if line.startswith("|"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if tables[-1].head:
                tables[-1].rows.append(cells)
            else:
                tables[-1].head = cells
        elif line.endswith(":"):
            tables.append(_Table(line.removesuffix(":")))
        elif line:
            tables[-1].lines.append(line)
    return tables
