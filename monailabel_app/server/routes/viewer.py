"""/ohif/: the viewer that MONAI Label's package brings, with its nested assets."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Scope

from rcmed.errors import ConfigurationError

INDEX = "index.html"


def ohif_folder() -> Path:
    """Where the viewer lies.

    Raises:
        ConfigurationError: MONAI Label is not installed completely.
    """
    spec = find_spec("monailabel")
    folder = Path(spec.origin).parent / "endpoints" / "static" / "ohif" if spec and spec.origin else Path("ohif")
    if not (folder / INDEX).exists():
        raise ConfigurationError(f"{folder}: the viewer OHIF is missing: install the package monailabel again")
    return folder


class Viewer(StaticFiles):
    """Files of the viewer; its pages, which are no files, are all its index."""

    def __init__(self) -> None:
        super().__init__(directory=ohif_folder(), html=True)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """A file; the index for a page; 404 for a file that is not there."""
        try:
            return await super().get_response(path, scope)
        except HTTPException as error:
            if error.status_code != 404 or PurePosixPath(path).suffix:
                raise
            return await super().get_response(INDEX, scope)
