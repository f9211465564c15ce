"""POST /infer/{model}: in a worker thread, one at a time, with a bounded queue."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import anyio
import anyio.to_thread
from fastapi import APIRouter, File, Form, HTTPException, Request, UploadFile
from fastapi.responses import JSONResponse, Response
from requests_toolbelt import MultipartEncoder

from monailabel_app.main import RCMedApp
from monailabel_app.names import require_id
from monailabel_app.server.routes.access import AnyUser
from monailabel_app.server.routes.serving import Served, json_object, received
from rcmed.errors import InputError

logger = logging.getLogger(__name__)

router = APIRouter(prefix="/infer", tags=["Infer"])

MINE = ("image", "model", "image_path", "image_info", "file", "session", "session_id", "save_label", "label_tag")
"""Keys of a request that `params` must not set: they say what is read and written."""
MASK_TYPE = "application/octet-stream"


class Output(StrEnum):
    """What comes back: the mask, the JSON, or both as multipart."""

    IMAGE = "image"
    JSON = "json"
    ALL = "all"
    DICOM_SEG = "dicom_seg"


class InferQueue:
    """Lets one infer run and a number of others wait; more are refused at once."""

    def __init__(self, waiting: int) -> None:
        """Make an empty queue.

        Args:
            waiting: that may wait while one runs.
        """
        self._most = waiting + 1
        self._inside = 0
        self._limiter: anyio.CapacityLimiter | None = None

    @asynccontextmanager
    async def place(self) -> AsyncIterator[anyio.CapacityLimiter]:
        """A place in the queue.

        Raises:
            HTTPException: 429, it is full.
        """
        if self._inside >= self._most:
            raise HTTPException(
                429, f"{self._inside} requests are running or waiting: ask again later", headers={"Retry-After": "5"}
            )
        # Belongs to the event loop in which it is first used.
        self._limiter = self._limiter or anyio.CapacityLimiter(1)
        self._inside += 1
        try:
            yield self._limiter
        finally:
            self._inside -= 1


@router.post("/{model}", summary="Find what is asked in an image")
async def infer(
    request: Request,
    served: Served,
    user: AnyUser,
    model: str,
    image: str = "",
    session_id: str = "",
    params: Annotated[str, Form()] = "{}",
    file: Annotated[UploadFile | None, File()] = None,
    label: Annotated[UploadFile | None, File()] = None,
    output: Output | None = None,
) -> Response:
    """Run a task on an image of the store, of a session, or on the file that comes with the request."""
    asked = json_object(params)
    for key in MINE:
        if key in asked:
            raise HTTPException(400, f"params: `{key}` can't be set there")
    if output is Output.DICOM_SEG:
        raise HTTPException(400, "output=dicom_seg is not given here: the mask is stored as SEG when it is submitted")
    if label is not None:
        raise HTTPException(422, "label: this server's models take no mask; ask with words, points or a box")
    if model not in served._infers:
        raise HTTPException(404, f"no model '{model[:40]}'; there are {', '.join(served._infers)}")
    if not (file or image or session_id):
        raise HTTPException(400, "name an image or a session, or send a file")
    queue: InferQueue = request.app.state.infers
    async with queue.place() as limiter:
        mask, reply = await anyio.to_thread.run_sync(
            lambda: _run(served, {**asked, "model": model}, image, session_id, file), limiter=limiter
        )
    if output is Output.JSON:
        return JSONResponse(reply)
    name = f"{uuid.uuid4().hex}.nrrd"
    if output is Output.IMAGE:
        return Response(mask, media_type=MASK_TYPE, headers={"Content-Disposition": f'attachment; filename="{name}"'})
    body = MultipartEncoder({"params": (None, json.dumps(reply), "application/json"), "image": (name, mask, MASK_TYPE)})
    return Response(body.to_string(), media_type=body.content_type)


def _run(
    served: RCMedApp, asked: dict[str, Any], image: str, session_id: str, file: UploadFile | None
) -> tuple[bytes, dict[str, Any]]:
    """In a worker thread: the mask's file as bytes, and the JSON."""
    if file is not None:
        with received(file) as path:
            return _answer(served, {**asked, "image_path": path})
    if session_id:
        sessions = served.sessions()
        session = sessions.get_session(session_id) if sessions is not None else None
        if session is None:
            raise HTTPException(404, "there is no such session, or it is expired: upload the image again")
        return _answer(served, {**asked, "image_path": session.image})
    try:
        require_id(image, "image")
    except InputError as error:
        raise HTTPException(400, str(error)) from None
    return _answer(served, {**asked, "image": image})


def _answer(served: RCMedApp, asked: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
    result = served.infer(asked)
    path = Path(result["file"])
    try:
        return path.read_bytes(), result["params"]
    finally:
        path.unlink(missing_ok=True)
