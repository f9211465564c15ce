"""What every router needs: the app that is served, and uploads on disk."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, Request, UploadFile

from monailabel_app.main import RCMedApp
from monailabel_app.names import file_name
from rcmed.errors import InputError


def _served(request: Request) -> RCMedApp:
    app: RCMedApp = request.app.state.monailabel
    return app


Served = Annotated[RCMedApp, Depends(_served)]


def json_object(text: str | None, what: str = "params") -> dict[str, Any]:
    """A JSON object that came as a form field.

    Raises:
        InputError: it is none.
    """
    try:
        content = json.loads(text or "{}")
    except ValueError as error:
        raise InputError(f"{what}: not valid JSON ({error})") from None
    if not isinstance(content, dict):
        raise InputError(f"{what}: must be a JSON object, not {type(content).__name__}")
    return content


@contextmanager
def received(upload: UploadFile, default_name: str = "upload.nii.gz") -> Iterator[Path]:
    """An upload as a file of the same name in a folder of its own, removed in the end."""
    with tempfile.TemporaryDirectory(prefix="rcmed-upload-") as folder:
        path = Path(folder) / file_name(upload.filename, default_name)
        with path.open("wb") as file:
            shutil.copyfileobj(upload.file, file)
        yield path
