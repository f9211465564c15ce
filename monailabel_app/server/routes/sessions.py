"""/session: images that are uploaded to be asked about, and not stored."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, File, HTTPException, Response, UploadFile
from fastapi.responses import FileResponse

from monailabel_app.main import RCMedApp
from monailabel_app.names import file_name
from monailabel_app.server.routes.access import AnyUser
from monailabel_app.server.routes.serving import Served
from monailabel_app.upload_sessions import ExpiringSessions

router = APIRouter(prefix="/session", tags=["Session"])

MOST_FILES = 20_000


def _sessions(served: RCMedApp) -> ExpiringSessions:
    sessions: ExpiringSessions | None = served.sessions()
    if sessions is None:
        raise HTTPException(406, "sessions are switched off")
    return sessions


@router.get("/{session_id}", summary="A session, or its image", response_model=None)
def get(
    served: Served, user: AnyUser, session_id: str, update_ts: bool = False, image: bool = False
) -> Response | dict[str, Any]:
    """What is known of a session."""
    session = _sessions(served).get_session(session_id, update_ts=update_ts)
    if session is None:
        raise HTTPException(404, "there is no such session, or it is expired")
    if not image:
        content: dict[str, Any] = session.to_json()
        return content
    if Path(session.image).is_dir():
        raise HTTPException(400, "the session holds several files; they are not sent back")
    return FileResponse(session.image, media_type="application/octet-stream", filename=Path(session.image).name)


@router.put("/", summary="Upload an image for a session")
def create(
    served: Served,
    user: AnyUser,
    files: Annotated[list[UploadFile], File()],
    uncompress: bool = False,
    expiry: int = 0,
) -> dict[str, Any]:
    """Keep a file, or the files of a series, until nobody asks for so many seconds."""
    if uncompress:
        raise HTTPException(400, "archives are not unpacked: send the files one by one in one request")
    if not 1 <= len(files) <= MOST_FILES:
        raise HTTPException(400, f"send between 1 and {MOST_FILES} files")
    with tempfile.TemporaryDirectory(prefix="rcmed-session-") as folder:
        inbox = Path(folder) / "image"
        inbox.mkdir()
        for number, upload in enumerate(files, start=1):
            path = inbox / file_name(upload.filename, f"{number:05d}")
            if path.exists():
                path = inbox / f"{number:05d}-{path.name}"
            with path.open("wb") as file:
                shutil.copyfileobj(upload.file, file)
        only = next(inbox.iterdir()) if len(files) == 1 else inbox
        session_id, session = _sessions(served).add_session(str(only), expiry)
    return {"session_id": session_id, "session_info": session.to_json()}


@router.delete("/{session_id}", summary="End a session")
def remove(served: Served, user: AnyUser, session_id: str) -> dict[str, Any]:
    """Remove a session with its image."""
    sessions = _sessions(served)
    session = sessions.get_session(session_id, update_ts=False)
    if session is None:
        raise HTTPException(404, "there is no such session, or it is expired")
    sessions.remove_session(session_id)
    content: dict[str, Any] = session.to_json()
    return content
