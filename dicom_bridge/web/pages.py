"""The templates of the status page: how they write times, durations and measurements, and show themselves anew."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from fastapi.templating import Jinja2Templates

from dicom_bridge.value_representation import written_name

_TEMPLATES = Path(__file__).parent / "templates"
_STATES = {
    "receiving": "receiving",
    "working": "being answered",
    "answered": "answered",
    "failed": "failed",
    "unanswered": "not answered",
    "received": "received, nothing asked",
}
"""States of a study in words."""


def page_templates() -> Jinja2Templates:
    """The templates with their filters: `time`, `duration`, `measurement`, `state`, `person`."""
    templates = Jinja2Templates(_TEMPLATES)
    templates.env.globals["refreshing"] = refreshing_script
    templates.env.globals["now"] = time.time
    templates.env.filters["time"] = _time
    templates.env.filters["duration"] = _duration
    templates.env.filters["measurement"] = _measurement
    templates.env.filters["person"] = written_name
    templates.env.filters["state"] = lambda state: _STATES.get(str(state), str(state))
    return templates


@cache
def refreshing_script() -> str:
    """The lines that show a page anew: the only script, written into the page."""
    return (_TEMPLATES / "refresh.js").read_text(encoding="utf-8")


def script_source() -> str:
    """What a Content-Security-Policy must allow for that script alone to run: its hash (CSP 3, 2.3.1)."""
    digest = hashlib.sha256(refreshing_script().encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def _duration(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.2f} s"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _measurement(told: Mapping[str, Any]) -> str:
    """Name, value and unit of a measurement of findings.json."""
    from rcmed.measurements import written  # with SciPy, which receiving does without

    value = "not finite" if told["value"] is None else written(float(told["value"]), str(told["unit"]))
    return f"{told['name']}: {value}"
