"""The log: text for people or JSON for a log collector, with UIDs and without values of data sets.

pydicom, highdicom and pynetdicom put values of elements, patients' names among them, into warnings and messages; so
nothing of theirs is written, and of an exception its type and where it was raised, not its text.
"""

from __future__ import annotations

import logging
import sys
import traceback
import warnings
from types import TracebackType
from typing import Any, TextIO

from pythonjsonlogger.json import JsonFormatter

from dicom_bridge.settings.gateway import LogSettings

_SILENT = ("pydicom", "pynetdicom", "highdicom", "py.warnings")
_QUIET = ("alembic", "dbos", "httpx", "httpcore", "urllib3", "uvicorn", "dicomweb_client", "orthanc_api_client")
_Exception = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class _WithoutValues(logging.Formatter):
    def formatException(self, ei: _Exception) -> str:  # noqa: N802 (logging's name)
        return exception_without_values(ei)


class _Json(JsonFormatter):
    def formatException(self, ei: _Exception) -> str:  # type: ignore[override]  # noqa: N802 (logging's name)
        return exception_without_values(ei)


def exception_without_values(error: _Exception) -> str:
    """Type and place of an exception and of what caused it; its text may hold values of a data set."""
    lines = []
    raised = error[1]
    while raised is not None:
        frames = traceback.extract_tb(raised.__traceback__)
        place = " < ".join(f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in reversed(frames[-8:]))
        lines.append(f"{type(raised).__name__} at {place or 'no place'}")
        raised = raised.__cause__ or raised.__context__
    return "; caused by ".join(lines)


def set_up_logging(settings: LogSettings, stream: TextIO | None = None) -> None:
    """Set up the process's log; what was set up before is replaced.

    Args:
        settings: format and level.
        stream: where to; standard error by default.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_formatter(settings))
    logging.basicConfig(handlers=[handler], level=settings.level, force=True)
    logging.captureWarnings(True)
    warnings.simplefilter("ignore")
    for name in _SILENT:
        logging.getLogger(name).disabled = True
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def _formatter(settings: LogSettings) -> logging.Formatter:
    if settings.format == "text":
        return _WithoutValues("%(asctime)s %(levelname)s %(name)s: %(message)s")
    names: dict[str, Any] = {"levelname": "level", "name": "logger", "exc_info": "exception"}
    return _Json("%(levelname)s %(name)s %(message)s", rename_fields=names, timestamp="time")
