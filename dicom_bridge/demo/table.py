"""The demo's table: a line for everything that was asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from rcmed.measurements import written

STYLES = {"found": "green", "absent": "cyan", "uncertain": "yellow", "unresolved": "red"}
# What is told of a region, the first that there is: a volume says more than an area, an area more than a length.
SIZES = ("volume", "area", "pixel count")


@dataclass(frozen=True)
class Row:
    """One answer.

    Attributes:
        study: name of the study.
        prompt: what was asked.
        status: found, absent, uncertain or unresolved.
        presence: probability in [0, 1]; None where unresolved.
        size: area or volume with its unit, or empty.
        seconds: from the end of sending to the arrival of the results.
    """

    study: str
    prompt: str
    target: str | None
    status: str
    presence: float | None
    size: str
    seconds: float


def rows_of(study: str, content: Mapping[str, Any], seconds: float) -> list[Row]:
    """The rows of one `findings.json`."""
    return [
        Row(
            study=study,
            prompt=str(finding["prompt"]),
            target=finding["target"],
            status=str(finding["status"]),
            presence=finding["presence"],
            size=_size(finding["measurements"]),
            seconds=seconds,
        )
        for finding in content["findings"]
    ]


def print_table(rows: Sequence[Row], console: Console) -> None:
    """Print the table; a study's name and seconds stand in its first line."""
    table = Table(title="What was asked, and what came back", title_justify="left")
    for heading in ("study", "asked", "answer"):
        table.add_column(heading)
    for heading in ("presence", "size", "seconds"):
        table.add_column(heading, justify="right")
    previous = None
    for row in rows:
        is_first = row.study != previous
        if is_first and previous is not None:
            table.add_section()
        previous = row.study
        asked = row.prompt if row.target in (None, row.prompt) else f"{row.prompt} ({row.target})"
        table.add_row(
            row.study if is_first else "",
            asked,
            f"[{STYLES.get(row.status, 'white')}]{row.status}[/]",
            "" if row.presence is None else f"{row.presence:.2f}",
            row.size,
            f"{row.seconds:.1f}" if is_first else "",
        )
    console.print(table)


def _size(measurements: Sequence[Mapping[str, Any]]) -> str:
    by_name = {str(measurement["name"]): measurement for measurement in measurements}
    for name in SIZES:
        measurement = by_name.get(name)
        if measurement is not None and measurement["value"] is not None:
            return written(float(measurement["value"]), str(measurement["unit"]))
    return ""
