"""The templates of the status page, and how they write times, durations and measurements."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from fastapi.templating import Jinja2Templates


def page_templates() -> Jinja2Templates:
    """The templates with their filters: `time`, `duration`, `measurement`."""
    templates = Jinja2Templates(Path(__file__).parent / "templates")
    templates.env.filters["time"] = _time
    templates.env.filters["duration"] = _duration
    templates.env.filters["measurement"] = _measurement
    return templates


def _time(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")


def _duration(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.2f} s"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _measurement(told: Mapping[str, Any]) -> str:
    """Name, value and unit of a measurement of findings.json."""
    from rcmed.measurements import written  # with SciPy, which receiving does without

    value = "not finite" if told["value"] is None else written(float(told["value"]), str(told["unit"]))
    return f"{told['name']}: {value}"
